#pragma once
// E5M2, 8 bits: sign, 5 exponent bits (bias 15), 2 mantissa bits. IEEE-like: infinity 0x7c, NaN 0x7d to 0x7f.
//   largest 57344 (0x7b), smallest normal 2^-14, smallest subnormal 2^-16.
// Source: Micikevicius et al., "FP8 formats for deep learning", 2022; torch.float8_e5m2.

#include "formats/minifloat.h"

namespace halftone::e5m2 {

constexpr float kMax = 57344.0f;
constexpr std::uint8_t kInfinity = 0x7c;
constexpr std::uint8_t kNan = 0x7f;

constexpr float decode(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80) << 24;
  if ((code & 0x7f) > kInfinity) return std::bit_cast<float>(sign | 0x7fc00000u);
  if ((code & 0x7f) == kInfinity) return std::bit_cast<float>(sign | 0x7f800000u);
  return minifloat::decode<5, 2, 15>(code);
}

// Round to nearest, ties to even; what rounds above 57344 becomes infinity.
constexpr std::uint8_t encode(float x) {
  const std::uint8_t sign = minifloat::is_negative(x) ? 0x80 : 0;
  const float magnitude = sign ? -x : x;
  if (minifloat::is_nan(x)) return sign | kNan;
  if (magnitude >= 61440.0f)
    return sign | kInfinity;  // the tie between 57344 and 65536 goes to the even code, infinity
  return static_cast<std::uint8_t>(sign | minifloat::encode_magnitude<5, 2, 15>(x));
}

static_assert(decode(0x7b) == kMax && decode(0x04) == 0x1p-14f && decode(0x01) == 0x1p-16f);
static_assert(encode(57344.0f) == 0x7b && encode(61439.0f) == 0x7b && encode(61440.0f) == kInfinity);

}  // namespace halftone::e5m2
