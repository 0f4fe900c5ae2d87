#include "ops/elementwise.h"

#include <cmath>

#include "formats/bf16.h"
#include "ops/backend.h"
#include "ops/elementwise_kernels.h"

namespace halftone {
namespace {

// Elements in one piece of work: below it a second thread costs more than it brings.
constexpr std::int64_t kGrain = 16384;

// Calls body(x, count, y) for pieces of two tensors of one shape.
template <typename Body>
void map_pieces(const Tensor& x, std::string_view name, Tensor& y, Stream& stream, const Body& body) {
  require(x.shape() == y.shape(), name, "expected equal shapes, got {} and {}", to_string(x.shape()),
          to_string(y.shape()));
  require_cpu(stream, name);
  const float* source = x.data<float>();
  float* target = y.data<float>();
  for_ranges(stream, x.numel(), kGrain,
             [&](std::int64_t begin, std::int64_t end) { body(source + begin, end - begin, target + begin); });
}

}  // namespace

void add(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream) {
  map_pieces(x, "add", y, stream,
             [=](const float* source, std::int64_t count, float* target) { add_cpu(source, count, numerics, target); });
}

void silu_mul(const Tensor& gate_up, Numerics numerics, Tensor& y, Stream& stream) {
  require(gate_up.rank() == 2 && y.rank() == 2 && gate_up.dim(0) == y.dim(0) && gate_up.dim(1) == 2 * y.dim(1),
          "silu_mul", "expected [rows, 2 * cols] and [rows, cols], got {} and {}", to_string(gate_up.shape()),
          to_string(y.shape()));
  require_cpu(stream, "silu_mul");
  const std::int64_t cols = y.dim(1);
  const float* source = gate_up.data<float>();
  float* target = y.data<float>();
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, cols));
  for_ranges(stream, y.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* gate = source + r * 2 * cols;
      silu_mul_cpu(gate, gate + cols, cols, numerics, target + r * cols);
    }
  });
}

void quick_gelu(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream) {
  map_pieces(x, "quick_gelu", y, stream, [=](const float* source, std::int64_t count, float* target) {
    quick_gelu_cpu(source, count, numerics, target);
  });
}

void gelu_erf(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream) {
  constexpr float kSqrtHalf = 0.70710678f;
  map_pieces(x, "gelu_erf", y, stream, [=](const float* source, std::int64_t count, float* target) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = source[i] * 0.5f * (1.0f + std::erf(source[i] * kSqrtHalf));
      target[i] = numerics == Numerics::kBF16 ? bf16::round(value) : value;
    }
  });
}

void round_to(Numerics numerics, Tensor& y, Stream& stream) {
  if (numerics == Numerics::kF32) return;
  map_pieces(y, "round_to", y, stream,
             [](const float* source, std::int64_t count, float* target) { round_bf16_cpu(source, count, target); });
}

}  // namespace halftone
