#include "ops/elementwise.h"

#include <cmath>

#include "formats/bf16.h"
#include "ops/backend.h"
#include "ops/exp.h"

namespace halftone {
namespace {

// Elements in one piece of work: below it a second thread costs more than it brings.
constexpr std::int64_t kGrain = 16384;

float round_as(Numerics numerics, float x) { return numerics == Numerics::kBF16 ? bf16::round(x) : x; }

template <typename Function>
void map(const Tensor& x, std::string_view name, Tensor& y, Stream& stream, Function function) {
  require(x.shape() == y.shape(), name, "expected equal shapes, got {} and {}", to_string(x.shape()),
          to_string(y.shape()));
  require_cpu(stream, name);
  const float* source = x.data<float>();
  float* target = y.data<float>();
  for_ranges(stream, x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) target[i] = function(source[i], target[i]);
  });
}

}  // namespace

void add(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream) {
  map(x, "add", y, stream, [=](float a, float b) { return round_as(numerics, a + b); });
}

void silu_mul(const Tensor& gate_up, Numerics numerics, Tensor& y, Stream& stream) {
  require(gate_up.rank() == 2 && y.rank() == 2 && gate_up.dim(0) == y.dim(0) && gate_up.dim(1) == 2 * y.dim(1),
          "silu_mul", "expected [rows, 2 * cols] and [rows, cols], got {} and {}", to_string(gate_up.shape()),
          to_string(y.shape()));
  require_cpu(stream, "silu_mul");
  const std::int64_t cols = y.dim(1);
  const float* source = gate_up.data<float>();
  float* target = y.data<float>();
  for_ranges(stream, y.dim(0), std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, cols)),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t r = begin; r < end; ++r) {
                 const float* row = source + r * 2 * cols;
                 for (std::int64_t c = 0; c < cols; ++c) {
                   const float silu = round_as(numerics, row[c] * exponential::sigmoid(row[c]));
                   target[r * cols + c] = round_as(numerics, silu * row[cols + c]);
                 }
               }
             });
}

void quick_gelu(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream) {
  map(x, "quick_gelu", y, stream, [=](float a, float) {
    const float sigmoid = round_as(numerics, exponential::sigmoid(round_as(numerics, 1.702f * a)));
    return round_as(numerics, a * sigmoid);
  });
}

void gelu_erf(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream) {
  constexpr float kSqrtHalf = 0.70710678f;
  map(x, "gelu_erf", y, stream,
      [=](float a, float) { return round_as(numerics, a * 0.5f * (1.0f + std::erf(a * kSqrtHalf))); });
}

void round_to(Numerics numerics, Tensor& y, Stream& stream) {
  if (numerics == Numerics::kF32) return;
  map(y, "round_to", y, stream, [](float a, float) { return bf16::round(a); });
}

}  // namespace halftone
