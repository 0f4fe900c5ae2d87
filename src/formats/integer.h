#pragma once
// Symmetric integer codes: round to nearest, ties to even, then clamp. INT8 [-128, 127]; INT4 [-8, 7], two a byte, the
// even element in the low nibble, two's complement. Scales: ModelOpt divides the largest magnitude by 127 and 7,
// compressed-tensors by 127.5 and 7.5.

#include <cmath>
#include <cstdint>

namespace halftone::integer {

constexpr int kInt8Min = -128, kInt8Max = 127;
constexpr int kInt4Min = -8, kInt4Max = 7;

// rint(x) clamped to [low, high]. Needs the default rounding mode. NaN has no code: it becomes low, the caller checks.
inline int encode(float x, int low, int high) {
  const float rounded = std::nearbyint(x);
  if (!(rounded > static_cast<float>(low))) return low;
  return rounded < static_cast<float>(high) ? static_cast<int>(rounded) : high;
}

// The value of a two's complement nibble.
constexpr int decode_int4(std::uint8_t nibble) { return static_cast<int>(nibble & 0xf) - ((nibble & 8) ? 16 : 0); }

static_assert(decode_int4(0x8) == -8 && decode_int4(0x7) == 7 && decode_int4(0xf) == -1);

}  // namespace halftone::integer
