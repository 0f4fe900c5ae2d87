#pragma once
// The one exponential of all ops, f32. Kernels repeat these steps lane by lane, so that an element's bits depend
// neither on its position nor on the instruction set.
//   x = n ln 2 + r,  |r| <= ln 2 / 2,  exp(x) = 2^n (1 + r + r^2 P(r))
// Error: 2 ulp for results above 2^-126, one subnormal step below. exp(-inf) = 0, exp(x > 88.73) = inf, NaN stays NaN.
// P: the minimax polynomial of Cephes expf (Moshier).

#include <bit>
#include <cmath>
#include <cstdint>

namespace halftone::exponential {

constexpr float kLowest = -104.0f;  // below: 0
constexpr float kHighest = 89.0f;   // above: infinity
constexpr float kLog2E = 1.44269504f;
constexpr float kLn2High = 0.693359375f;  // 10 bits: n * kLn2High is exact
constexpr float kLn2Low = -2.12194440e-4f;
constexpr float kMagic = 0x1.8p23f;  // adding it leaves the nearest integer in the last places
constexpr float kP[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                        4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};

// 2^n for -126 <= n <= 127.
inline float power_of_two(std::int32_t n) { return std::bit_cast<float>((n + 127) << 23); }

inline float exp(float x) {
  if (x < kLowest) x = kLowest;
  if (x > kHighest) x = kHighest;
  const float shifted = std::fma(x, kLog2E, kMagic);
  const float n = shifted - kMagic;
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float p = kP[0];
  for (int i = 1; i < 6; ++i) p = std::fma(p, r, kP[i]);
  const float y = std::fma(p, r * r, r) + 1.0f;
  // two factors, because 2^n itself may be subnormal or infinite; n is read from the last places, which is safe for NaN
  const std::int32_t integer = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kMagic);
  const std::int32_t half = integer >> 1;
  if (x != x) return x;
  return y * power_of_two(half) * power_of_two(integer - half);
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

}  // namespace halftone::exponential
