#pragma once
// E3M2, 6 bits: sign, 3 exponent bits (bias 3), 2 mantissa bits. Largest 28, smallest normal 0.25, smallest subnormal
// 0.0625; no NaN, no infinity. Source: OCP Microscaling Formats (MX) 1.0, section 5.3.2.

#include "formats/minifloat.h"

namespace halftone::e3m2 {

constexpr float kMax = 28.0f;
constexpr int kMaxExponent = 4;  // floor(log2(28))

constexpr float decode(std::uint8_t code) { return minifloat::decode<3, 2, 3>(code & 0x3f); }

// Round to nearest, ties to even; magnitudes above 28 become 28. NaN has no code: it becomes 28, the caller checks.
constexpr std::uint8_t encode(float x) {
  const std::uint8_t sign = minifloat::is_negative(x) ? 0x20 : 0;
  const float magnitude = sign ? -x : x;
  if (!(magnitude < kMax)) return sign | 0x1f;
  return static_cast<std::uint8_t>(sign | minifloat::encode_magnitude<3, 2, 3>(x));
}

static_assert(decode(0x1f) == kMax && decode(0x04) == 0.25f && decode(0x21) == -0.0625f);
static_assert(encode(26.0f) == 0x1e && encode(26.1f) == 0x1f && encode(-1e9f) == 0x3f && encode(0.03125f) == 0);

}  // namespace halftone::e3m2
