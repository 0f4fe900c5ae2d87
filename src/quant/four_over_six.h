#pragma once
// Four over six (Cook et al. 2025): E2M1 has no value between 4 and 6, so that NVFP4 loses most on values a little below a
// block's largest. Each block of 16 chooses whether its largest magnitude becomes 6 or 4, by the smaller squared error.
//
//   global scale g = amax of all / (6 * 256);  block scale = e4m3(amax / (6 g)) or e4m3(1.5 amax / (6 g))
//
// 256 in the place of 448, because 1.5 times the largest block scale must be one of E4M3's. The bytes mean what NVFP4's
// always mean. Sources: arXiv 2512.02010; modelopt 0.47 configs/numerics/nvfp4_four_over_six, whose arithmetic this is.

#include <cstdint>

namespace halftone::four_over_six {

constexpr float kScaleMax = 256.0f;  // block scale of the largest block, when it becomes 6
constexpr float kStretch = 1.5f;     // 6 / 4

// Sum of (x - value * scale)^2 with value the E2M1 number nearest to x / scale. scale > 0.
double squared_error(const float* x, std::int64_t n, float scale);

// Whether the block x[0..n) is nearer to itself under the scale by which its largest magnitude becomes 4. When both are
// equally near, 6 stays.
bool four_is_nearer(const float* x, std::int64_t n, float scale_of_six, float scale_of_four);

}  // namespace halftone::four_over_six
