#include "report/figures.h"

#include <algorithm>
#include <cctype>

namespace halftone {

std::string short_hash(std::string_view hash) { return std::string(hash.substr(0, 12)); }

std::string memory_part_title(const MemoryRow& row) {
  if (!row.component.starts_with(kWeightsPrefix)) return row.component;
  std::string format = row.component.substr(kWeightsPrefix.size());
  std::transform(format.begin(), format.end(), format.begin(), [](unsigned char c) { return std::tolower(c); });
  if (format == "scales") return "scales";
  const bool is_plain = format.starts_with("bf16") || format.starts_with("f16") || format.starts_with("f32");
  return is_plain ? "weights kept as they are" : "weights, quantized";
}

}  // namespace halftone
