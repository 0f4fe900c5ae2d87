#include "quant/smoothquant.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace halftone {

std::vector<float> smoothquant_factors(std::span<const float> absmax_x, std::span<const float> absmax_w, float alpha) {
  require(absmax_x.size() == absmax_w.size(), "smoothquant", "expected {} channels, got {}", absmax_x.size(),
          absmax_w.size());
  require(alpha >= 0 && alpha <= 1, "smoothquant", "expected alpha within 0 and 1, got {}", alpha);
  constexpr float kNothing = 0x1p-31f;  // no activation that matters is this small
  std::vector<float> factors(absmax_x.size(), 1.0f);
  for (std::size_t c = 0; c < factors.size(); ++c) {
    if (absmax_x[c] <= kNothing || absmax_w[c] <= kNothing) continue;
    const float factor = std::pow(absmax_x[c], alpha) / std::pow(absmax_w[c], 1 - alpha);
    factors[c] = std::clamp(factor, 1e-4f, 1e4f);
  }
  return factors;
}

}  // namespace halftone
