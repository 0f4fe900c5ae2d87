#pragma once
// The MX block formats: 32 elements share one E8M0 scale. Which power of two is up to the tool; all choose it from the
// largest magnitude of the block, amax:
//   ModelOpt            2^ceil(log2(amax / M)), M the element's largest number: nothing is clipped. The logarithm is
//                       rounded to f32, so that a quotient a few ulp above a power of two counts as that power.
//   OCP MX 1.0          2^(floor(log2(amax)) - E), E the exponent of M: magnitudes up to 2^(E + 1) may come, those
//   above
//                       M are clipped.
//   compressed-tensors  as OCP after amax's mantissa was rounded up where it is 1.75 or more (E2M1, E4M3), 1.9375 or
//                       more (E2M3): less is clipped.
// Sources: OCP Microscaling Formats 1.0, section 6.3; ModelOpt qtensor/mxfp4_tensor.py, mxfp8_tensor.py; compressed-
// tensors quantization/utils/mxfp_utils.py.

#include <algorithm>
#include <cmath>

#include "formats/e8m0.h"

namespace halftone::mx {

constexpr std::int64_t kBlock = 32;

enum class ScaleRule : std::uint8_t { kModelOpt, kOcp, kCompressedTensors };

// floor(log2(x)) of a positive normal number; -127 for zero and subnormal numbers.
constexpr int exponent_of(float x) { return static_cast<int>((std::bit_cast<std::uint32_t>(x) >> 23) & 0xff) - 127; }

// amax of 0 gives the smallest scale, 2^-127.
constexpr std::uint8_t scale_ceil(float amax, float element_max) {
  const float quotient = amax / element_max;
  if (!(quotient > 0)) return 0;
  if (exponent_of(quotient) >= e8m0::kBias) return e8m0::kMaxCode;
  constexpr std::uint32_t kNear = 64;  // mantissas whose logarithm may round to a whole number
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(quotient);
  if (exponent_of(quotient) > -127 && (bits & 0x7fffff) >= kNear)
    return e8m0::encode_exponent(exponent_of(quotient) + 1);
  // double, then f32: the correctly rounded logarithm, which f32 functions need not give
  const auto logarithm = static_cast<float>(std::log2(static_cast<double>(quotient)));
  return e8m0::encode_exponent(static_cast<int>(std::ceil(logarithm)));
}

constexpr std::uint8_t scale_floor(float amax, int element_exponent) {
  return e8m0::encode_exponent(exponent_of(amax) - element_exponent);
}

// mantissa_bits: 1 for E2M1 and E4M3 (compressed-tensors uses E2M1's for both), 3 for E2M3.
constexpr std::uint8_t scale_rounded(float amax, int element_exponent, int mantissa_bits) {
  const std::uint32_t raised = std::bit_cast<std::uint32_t>(amax) + (1u << (23 - mantissa_bits - 1));
  return e8m0::encode_exponent(exponent_of(std::bit_cast<float>(raised)) - element_exponent);
}

static_assert(scale_floor(6.0f, 2) == 127 && scale_floor(7.9f, 2) == 127 && scale_floor(8.0f, 2) == 128);
static_assert(scale_rounded(6.9f, 2, 1) == 127 && scale_rounded(7.0f, 2, 1) == 128);
static_assert(scale_floor(0.0f, 2) == 0);

}  // namespace halftone::mx
