#pragma once
// NF4, 4 bits: 16 levels between -1 and 1, quantiles of the normal distribution, to be multiplied by the largest
// magnitude of a block. Level 7 is 0. Encoding takes the nearest level by the midpoints rounded to f32, of two equally
// near ones the lower. Sources: Dettmers et al., "QLoRA", 2023, section 3; bitsandbytes get_4bit_type. (ModelOpt's table
// in qtensor/nf4_tensor.py has four decimals of the same levels; no file holds it.)

#include <cstdint>

namespace halftone::nf4 {

constexpr float kLevels[16] = {-1.0f,
                               -0.6961928009986877f,
                               -0.5250730514526367f,
                               -0.39491748809814453f,
                               -0.28444138169288635f,
                               -0.18477343022823334f,
                               -0.09105003625154495f,
                               0.0f,
                               0.07958029955625534f,
                               0.16093020141124725f,
                               0.24611230194568634f,
                               0.33791524171829224f,
                               0.44070982933044434f,
                               0.5626170039176941f,
                               0.7229568362236023f,
                               1.0f};
constexpr std::uint8_t kZero = 7;

constexpr float decode(std::uint8_t code) { return kLevels[code & 0xf]; }

// NaN becomes 0, the caller checks.
constexpr std::uint8_t encode(float x) {
  int below = 0;  // midpoints; no branch, so that compilers make vectors of it
  for (int code = 0; code < 15; ++code) below += (kLevels[code] + kLevels[code + 1]) / 2 < x ? 1 : 0;
  return static_cast<std::uint8_t>(below);
}

static_assert(encode(-2.0f) == 0 && encode(0.0f) == kZero && encode(0.9f) == 15 && encode(2.0f) == 15);

}  // namespace halftone::nf4
