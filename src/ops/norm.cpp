#include "ops/norm.h"

#include <array>

#include "formats/bf16.h"
#include "ops/backend.h"
#include "ops/norm_kernels.h"

namespace halftone {
namespace {

template <typename Term>
double sum_row(const float* x, std::int64_t cols, Term term) {
  std::array<double, kNormParts> parts{};
  for (std::int64_t c = 0; c < cols; ++c) parts[static_cast<std::size_t>(c % kNormParts)] += term(x[c]);
  return sum_norm_parts(parts.data());
}

void check(const Tensor& x, const Tensor& w, const Tensor& y, std::string_view name, const Stream& stream) {
  require(x.rank() == 2 && x.shape() == y.shape(), name, "expected equal [rows, cols], got {} and {}",
          to_string(x.shape()), to_string(y.shape()));
  require(w.shape() == Shape{x.dim(1)}, name, "expected weights [{}], got {}", x.dim(1), to_string(w.shape()));
  require_cpu(stream, name);
}

template <typename Row>
void for_rows(const Tensor& x, Tensor& y, Stream& stream, Row row) {
  const std::int64_t cols = x.dim(1);
  const float* source = x.data<float>();
  float* target = y.data<float>();
  constexpr std::int64_t kGrain = 16384;
  for_ranges(stream, x.dim(0), std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, cols)),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t r = begin; r < end; ++r) row(source + r * cols, target + r * cols);
             });
}

}  // namespace

void rms_norm_row_reference(const float* x, const float* w, std::int64_t cols, float eps, Numerics numerics, float* y) {
  const float inverse = inverse_norm(sum_row(x, cols, [](double v) { return v * v; }), cols, eps);
  for (std::int64_t c = 0; c < cols; ++c) {
    y[c] = numerics == Numerics::kF32 ? w[c] * (x[c] * inverse) : bf16::round(w[c] * bf16::round(x[c] * inverse));
  }
}

void layer_norm_row_reference(const float* x, const float* w, const float* b, std::int64_t cols, float eps,
                              Numerics numerics, float* y) {
  const double mean = sum_row(x, cols, [](double v) { return v; }) / static_cast<double>(cols);
  const float inverse = inverse_norm(sum_row(x, cols, [mean](double v) { return (v - mean) * (v - mean); }), cols, eps);
  const auto center = static_cast<float>(mean);
  for (std::int64_t c = 0; c < cols; ++c) {
    const float value = (x[c] - center) * inverse * w[c] + b[c];
    y[c] = numerics == Numerics::kF32 ? value : bf16::round(value);
  }
}

void rms_norm(const Tensor& x, const Tensor& w, float eps, Numerics numerics, Tensor& y, Stream& stream) {
  check(x, w, y, "rms_norm", stream);
  const std::int64_t cols = x.dim(1);
  const float* weight = w.data<float>();
  for_rows(x, y, stream,
           [&](const float* row, float* out) { rms_norm_row_cpu(row, weight, cols, eps, numerics, out); });
}

void layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Numerics numerics, Tensor& y,
                Stream& stream) {
  check(x, w, y, "layer_norm", stream);
  require(b.shape() == w.shape(), "layer_norm", "expected a bias {}, got {}", to_string(w.shape()),
          to_string(b.shape()));
  const std::int64_t cols = x.dim(1);
  const float *weight = w.data<float>(), *bias = b.data<float>();
  for_rows(x, y, stream,
           [&](const float* row, float* out) { layer_norm_row_cpu(row, weight, bias, cols, eps, numerics, out); });
}

}  // namespace halftone
