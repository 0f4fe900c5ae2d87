#include "ops/norm.h"

#include <array>
#include <cmath>

#include "formats/bf16.h"
#include "ops/backend.h"

namespace halftone {
namespace {

// Sums run in double, in eight interleaved parts (column mod 8) that are added in order: fast and of fixed order.
constexpr std::int64_t kParts = 8;

template <typename Term>
double sum_row(const float* x, std::int64_t cols, Term term) {
  std::array<double, kParts> parts{};
  std::int64_t c = 0;
  for (; c + kParts <= cols; c += kParts) {
    for (std::int64_t i = 0; i < kParts; ++i) parts[static_cast<std::size_t>(i)] += term(x[c + i]);
  }
  for (; c < cols; ++c) parts[static_cast<std::size_t>(c % kParts)] += term(x[c]);
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
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

void rms_norm(const Tensor& x, const Tensor& w, float eps, Numerics numerics, Tensor& y, Stream& stream) {
  check(x, w, y, "rms_norm", stream);
  const std::int64_t cols = x.dim(1);
  const float* weight = w.data<float>();
  for_rows(x, y, stream, [&](const float* row, float* out) {
    const double squares = sum_row(row, cols, [](double v) { return v * v; });
    const auto inverse =
        static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(eps)));
    if (numerics == Numerics::kF32) {
      for (std::int64_t c = 0; c < cols; ++c) out[c] = weight[c] * (row[c] * inverse);
    } else {
      for (std::int64_t c = 0; c < cols; ++c) out[c] = bf16::round(weight[c] * bf16::round(row[c] * inverse));
    }
  });
}

void layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Numerics numerics, Tensor& y,
                Stream& stream) {
  check(x, w, y, "layer_norm", stream);
  require(b.shape() == w.shape(), "layer_norm", "expected a bias {}, got {}", to_string(w.shape()),
          to_string(b.shape()));
  const std::int64_t cols = x.dim(1);
  const float* weight = w.data<float>();
  const float* bias = b.data<float>();
  for_rows(x, y, stream, [&](const float* row, float* out) {
    const double mean = sum_row(row, cols, [](double v) { return v; }) / static_cast<double>(cols);
    const double squares = sum_row(row, cols, [mean](double v) { return (v - mean) * (v - mean); });
    const auto inverse =
        static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(eps)));
    const auto center = static_cast<float>(mean);
    for (std::int64_t c = 0; c < cols; ++c) out[c] = (row[c] - center) * inverse * weight[c] + bias[c];
    if (numerics == Numerics::kBF16) {
      for (std::int64_t c = 0; c < cols; ++c) out[c] = bf16::round(out[c]);
    }
  });
}

}  // namespace halftone
