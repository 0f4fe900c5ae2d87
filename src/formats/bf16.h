#pragma once
// bfloat16: the upper half of an f32. Decoding is exact; encoding rounds to nearest, ties to even, NaN stays NaN.

#include "formats/minifloat.h"

namespace halftone::bf16 {

constexpr float decode(std::uint16_t code) { return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16); }

constexpr std::uint16_t encode(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if (minifloat::is_nan(x)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// x rounded to bf16 and back.
constexpr float round(float x) { return decode(encode(x)); }

static_assert(encode(1.0f) == 0x3f80 && encode(0x1.01p0f) == 0x3f80 && encode(0x1.03p0f) == 0x3f82);

}  // namespace halftone::bf16
