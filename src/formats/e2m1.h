#pragma once
// E2M1, 4 bits: sign, 2 exponent bits (bias 1), 1 mantissa bit. Magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6; no NaN, no
// infinity. Two codes a byte, the even element in the low nibble. Source: OCP Microscaling Formats (MX) 1.0,
// section 5.3.3.

#include "formats/minifloat.h"

namespace halftone::e2m1 {

constexpr float kMax = 6.0f;

constexpr float decode(std::uint8_t code) { return minifloat::decode<2, 1, 1>(code & 0xf); }

// Round to nearest, ties to even (0.25 -> 0, 0.75 -> 1, 2.5 -> 2, 5 -> 4); magnitudes above 6 become 6. The sign bit is
// set for x < 0 alone, so -0.1 gives -0 (0x8) and -0 gives 0. NaN has no code: it becomes 6, the caller checks.
constexpr std::uint8_t encode(float x) {
  const std::uint8_t sign = x < 0 ? 8 : 0;
  const float magnitude = x < 0 ? -x : x;
  if (!(magnitude < kMax)) return sign | 7;
  return static_cast<std::uint8_t>(sign | minifloat::encode_magnitude<2, 1, 1>(magnitude));
}

static_assert(decode(1) == 0.5f && decode(7) == 6.0f && decode(0xf) == -6.0f);
static_assert(encode(0.25f) == 0 && encode(0.75f) == 2 && encode(2.5f) == 4 && encode(5.0f) == 6 && encode(5.1f) == 7);

}  // namespace halftone::e2m1
