#pragma once
// Integer codes: round to nearest, ties to even, then clamp. INT8 [-128, 127]; INT4 [-8, 7], two a byte, the even
// element in the low nibble, two's complement.
//   symmetric   value = code * scale.           ModelOpt divides the largest magnitude by 127 and 7, compressed-tensors
//               by 127.5 and 7.5.
//   asymmetric  value = (code - zero) * scale.  Files that store codes and zeros without a sign (AWQ, GPTQ: 0 .. 15)
//               are moved by half the range: 15 becomes 7, the zero 8 becomes 0.

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

// An unsigned code or zero of `bits` bits as the signed one that stands for it, and back.
constexpr int from_unsigned(int code, int bits) { return code - (1 << (bits - 1)); }
constexpr int to_unsigned(int code, int bits) { return code + (1 << (bits - 1)); }

static_assert(decode_int4(0x8) == -8 && decode_int4(0x7) == 7 && decode_int4(0xf) == -1);
static_assert(from_unsigned(0, 4) == kInt4Min && from_unsigned(15, 4) == kInt4Max && to_unsigned(kInt8Min, 8) == 0);

}  // namespace halftone::integer
