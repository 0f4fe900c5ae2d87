#pragma once
// INT8 of a KV cache: value = code * scale, scale = amax / 127, codes in [-127, 127] by rounding to nearest, ties to even,
// then clamping. The code that is left, -128, stands for NaN, so that a key or a value that is none does not become a
// number; infinity is clamped.

#include <cmath>
#include <cstdint>
#include <limits>

#include "formats/integer.h"

namespace halftone::kv_int8 {

constexpr float kMax = 127.0f;
constexpr std::int8_t kNan = -128;

// x: the value divided by the scale. Needs the default rounding mode.
inline std::int8_t encode(float x) {
  return std::isnan(x) ? kNan : static_cast<std::int8_t>(integer::encode(x, -integer::kInt8Max, integer::kInt8Max));
}

constexpr float decode(std::int8_t code) {
  return code == kNan ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(code);
}

static_assert(decode(127) == kMax && decode(-127) == -kMax && decode(kNan) != decode(kNan));

}  // namespace halftone::kv_int8
