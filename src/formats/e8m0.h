#pragma once
// E8M0, 8 bits: a power of two, 2^(code - 127), from 2^-127 (0x00) to 2^127 (0xfe); 0xff is NaN. No sign, no zero. The
// scale of the MX formats. Source: OCP Microscaling Formats (MX) 1.0, section 5.4.1; torch.float8_e8m0fnu.

#include "formats/minifloat.h"

namespace halftone::e8m0 {

constexpr int kBias = 127;
constexpr std::uint8_t kNan = 0xff;
constexpr std::uint8_t kMaxCode = 0xfe;

constexpr float decode(std::uint8_t code) {
  if (code == kNan) return std::bit_cast<float>(0x7fc00000u);
  if (code == 0) return 0x1p-127f;  // subnormal in f32
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 23);
}

// The code of 2^exponent, the exponent clamped to -127 .. 127.
constexpr std::uint8_t encode_exponent(int exponent) {
  const int code = exponent + kBias;
  return static_cast<std::uint8_t>(code < 0 ? 0 : code > kMaxCode ? kMaxCode : code);
}

// The code of an exact power of two.
constexpr std::uint8_t encode(float power) {
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(power) >> 23);
}

static_assert(decode(0) == 0x1p-127f && decode(127) == 1.0f && decode(kMaxCode) == 0x1p127f);
static_assert(encode(1.0f) == 127 && encode(0x1p-127f) == 0 && encode_exponent(-200) == 0 && encode_exponent(3) == 130);

}  // namespace halftone::e8m0
