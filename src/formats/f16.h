#pragma once
// IEEE half precision: sign, 5 exponent bits (bias 15), 10 mantissa bits. Largest 65504, infinity 0x7c00.

#include "formats/minifloat.h"

namespace halftone::f16 {

constexpr float decode(std::uint16_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x8000) << 16;
  if ((code & 0x7c00) == 0x7c00)
    return std::bit_cast<float>(sign | 0x7f800000u | (static_cast<std::uint32_t>(code & 0x3ff) << 13));
  return minifloat::decode<5, 10, 15>(code);
}

// Round to nearest, ties to even; what rounds above 65504 becomes infinity.
constexpr std::uint16_t encode(float x) {
  const std::uint16_t sign = minifloat::is_negative(x) ? 0x8000 : 0;
  const float magnitude = sign ? -x : x;
  if (minifloat::is_nan(x)) return sign | 0x7e00;
  if (magnitude >= 65520.0f) return sign | 0x7c00;
  return static_cast<std::uint16_t>(sign | minifloat::encode_magnitude<5, 10, 15>(x));
}

static_assert(decode(0x3c00) == 1.0f && decode(0x7bff) == 65504.0f && decode(0x0001) == 0x1p-24f);
static_assert(encode(1.0f) == 0x3c00 && encode(65519.0f) == 0x7bff && encode(65520.0f) == 0x7c00);

}  // namespace halftone::f16
