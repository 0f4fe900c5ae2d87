#pragma once
// The arithmetic that all floating-point formats narrower than f32 share. Each format's own header states its range and
// special values; this one only packs and unpacks.
//   normal     (-1)^s * 2^(e - bias) * (1 + m / 2^M)      e > 0
//   subnormal  (-1)^s * 2^(1 - bias) * (m / 2^M)          e = 0

#include <bit>
#include <cstdint>

namespace halftone::minifloat {

// 2^exponent for -126 <= exponent <= 127.
constexpr float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

// The value of `code`, all exponents read as finite. E exponent bits, M mantissa bits.
template <int E, int M, int Bias>
constexpr float decode(std::uint32_t code) {
  const std::uint32_t exponent = (code >> M) & ((1u << E) - 1);
  const std::uint32_t mantissa = code & ((1u << M) - 1);
  const float magnitude = exponent == 0
                              ? static_cast<float>(mantissa) * power_of_two(1 - Bias - M)
                              : std::bit_cast<float>(((exponent + 127 - Bias) << 23) | (mantissa << (23 - M)));
  return (code >> (E + M)) & 1 ? -magnitude : magnitude;
}

// The code of finite x without its sign, rounded to nearest, ties to even, as if the exponent had no upper end: the
// caller compares with its largest code. |x| must be below 2^(2^E - Bias + 1).
template <int E, int M, int Bias>
constexpr std::uint32_t encode_magnitude(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x) & 0x7fffffffu;
  const float magnitude = std::bit_cast<float>(bits);
  if (magnitude < power_of_two(1 - Bias)) {
    constexpr float magic = power_of_two(1 - Bias - M + 23);  // its last place is one subnormal step: the sum rounds
    return std::bit_cast<std::uint32_t>(magnitude + magic) - std::bit_cast<std::uint32_t>(magic);
  }
  constexpr int drop = 23 - M;
  const std::uint32_t rounded = bits + (1u << (drop - 1)) - 1 + ((bits >> drop) & 1);
  return (rounded >> drop) - (static_cast<std::uint32_t>(127 - Bias) << M);
}

constexpr bool is_nan(float x) { return x != x; }

constexpr bool is_negative(float x) { return std::bit_cast<std::uint32_t>(x) >> 31; }

}  // namespace halftone::minifloat
