#pragma once
// E2M3, 6 bits: sign, 2 exponent bits (bias 1), 3 mantissa bits. Largest 7.5, smallest normal 1, smallest subnormal
// 0.125; no NaN, no infinity. Source: OCP Microscaling Formats (MX) 1.0, section 5.3.2.

#include "formats/minifloat.h"

namespace halftone::e2m3 {

constexpr float kMax = 7.5f;
constexpr int kMaxExponent = 2;  // floor(log2(7.5))

constexpr float decode(std::uint8_t code) { return minifloat::decode<2, 3, 1>(code & 0x3f); }

// Round to nearest, ties to even; magnitudes above 7.5 become 7.5. NaN has no code: it becomes 7.5, the caller checks.
constexpr std::uint8_t encode(float x) {
  const std::uint8_t sign = minifloat::is_negative(x) ? 0x20 : 0;
  const float magnitude = sign ? -x : x;
  if (!(magnitude < kMax)) return sign | 0x1f;
  return static_cast<std::uint8_t>(sign | minifloat::encode_magnitude<2, 3, 1>(x));
}

static_assert(decode(0x1f) == kMax && decode(0x08) == 1.0f && decode(0x21) == -0.125f);
static_assert(encode(7.25f) == 0x1e && encode(7.26f) == 0x1f && encode(-1e9f) == 0x3f && encode(0.0625f) == 0);

}  // namespace halftone::e2m3
