#pragma once
// SmoothQuant (Xiao et al. 2022): how much of an input's outliers the weights take over.

#include <span>
#include <vector>

namespace halftone {

// s[c] = absmax_x[c]^alpha / absmax_w[c]^(1 - alpha), within [1e-4, 1e4]; 1 where a channel of the input or of the
// weights is always zero. x is divided by s, W's columns are multiplied. Both spans: [channels]. Source: equation 4 of
// the paper; limits as modelopt's smoothquant.
std::vector<float> smoothquant_factors(std::span<const float> absmax_x, std::span<const float> absmax_w, float alpha);

}  // namespace halftone
