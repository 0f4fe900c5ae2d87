#include "ops/round_values.h"

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "formats/integer.h"

namespace halftone::scalar {
namespace {

float round_to_type(float x, DType dtype) {
  if (dtype == DType::kBF16) return bf16::round(x);
  return dtype == DType::kF16 ? f16::decode(f16::encode(x)) : x;
}

}  // namespace

void round_integers(const float* x, std::int64_t n, float scale, float zero, int low, int high, DType quotients,
                    std::int8_t* codes) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float quotient = round_to_type(round_to_type(x[i] / scale, quotients) + zero, quotients);
    codes[i] = static_cast<std::int8_t>(integer::encode(quotient, low, high));
  }
}

void round_e4m3(const float* x, std::int64_t n, float scale, DType quotients, std::uint8_t* codes) {
  for (std::int64_t i = 0; i < n; ++i) codes[i] = e4m3::encode_saturated(round_to_type(x[i] / scale, quotients));
}

void round_e2m1(const float* x, std::int64_t n, float scale, bool ties_down, std::uint8_t* codes) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float quotient = x[i] / scale;
    if (!ties_down) {
      codes[i] = e2m1::encode(quotient);
      continue;
    }
    // what lies just below rounds the same, but for ties
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(quotient) & 0x7fffffffu;
    const float below = std::bit_cast<float>(bits > 0 ? bits - 1 : 0);
    codes[i] = static_cast<std::uint8_t>(e2m1::encode(below) | (quotient > 0 ? 0 : 8));
  }
}

}  // namespace halftone::scalar
