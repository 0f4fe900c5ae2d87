#pragma once
// E4M3 (the "fn" variant), 8 bits: sign, 4 exponent bits (bias 7), 3 mantissa bits.
//   largest 448 (0x7e), smallest normal 2^-6, smallest subnormal 2^-9, no infinity, NaN is 0x7f and 0xff.
// Source: Micikevicius et al., "FP8 formats for deep learning", 2022; torch.float8_e4m3fn.

#include "formats/minifloat.h"

namespace halftone::e4m3 {

constexpr float kMax = 448.0f;
constexpr float kMinSubnormal = 0x1p-9f;
constexpr std::uint8_t kNan = 0x7f;

constexpr float decode(std::uint8_t code) {
  if ((code & 0x7f) == kNan) return std::bit_cast<float>(0x7fc00000u | (static_cast<std::uint32_t>(code & 0x80) << 24));
  return minifloat::decode<4, 3, 7>(code);
}

// Round to nearest, ties to even. What rounds above 448 becomes NaN, as torch converted before 2.15.
constexpr std::uint8_t encode(float x) {
  const std::uint8_t sign = minifloat::is_negative(x) ? 0x80 : 0;
  const float magnitude = sign ? -x : x;
  if (!(magnitude < 480.0f)) return sign | kNan;  // NaN too
  return static_cast<std::uint8_t>(sign | minifloat::encode_magnitude<4, 3, 7>(x));
}

// The same with magnitudes above 448 clamped to 448, as torch 2.15 converts; NaN stays NaN.
constexpr std::uint8_t encode_saturated(float x) { return encode(x > kMax ? kMax : x < -kMax ? -kMax : x); }

static_assert(decode(0x7e) == 448.0f && decode(0x08) == 0x1p-6f && decode(0x01) == kMinSubnormal);
static_assert(encode(464.0f) == 0x7e && encode(465.0f) == kNan && encode(-0x1p-10f) == 0x80);

}  // namespace halftone::e4m3
