#include "ops/numerics_name.h"

#include <algorithm>

namespace halftone {

std::string_view to_string(Numerics numerics) { return kNumericsNames[static_cast<std::size_t>(numerics)]; }

std::optional<Numerics> find_numerics(std::string_view name) {
  const auto it = std::find(kNumericsNames.begin(), kNumericsNames.end(), name);
  if (it == kNumericsNames.end()) return std::nullopt;
  return static_cast<Numerics>(it - kNumericsNames.begin());
}

}  // namespace halftone
