#include "quant/layer_error.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/linear_product.h"
#include "ops/round_values.h"

namespace halftone {
namespace {

struct Energies {
  double signal = 0, noise = 0;
};

double relative(const Energies& sums) { return sums.noise == 0 ? 0 : std::sqrt(sums.noise / sums.signal); }

}  // namespace

WeightError weight_error(const QTensor& quantized, const Tensor& weight, ThreadPool& pool) {
  const std::int64_t rows = weight.dim(0), cols = weight.dim(1);
  require(quantized.shape == weight.shape(), "weight_error", "expected {}, got {}", to_string(weight.shape()),
          to_string(quantized.shape));
  std::vector<Energies> of_row(static_cast<std::size_t>(rows));
  pool.parallel_for(rows, [&](std::int64_t r) {
    static thread_local std::vector<float> decoded, exact;
    decoded.resize(static_cast<std::size_t>(cols));
    exact.resize(static_cast<std::size_t>(cols));
    dequantize_rows(quantized, r, r + 1, decoded.data());
    widen(weight, r * cols, cols, exact.data());
    Energies& sums = of_row[static_cast<std::size_t>(r)];
    add_energies(exact.data(), decoded.data(), cols, sums.signal, sums.noise);
  });
  Energies total;
  for (const Energies& row : of_row) {
    total.signal += row.signal;
    total.noise += row.noise;
  }
  return {relative(total), 10 * std::log10(total.signal / total.noise)};
}

double output_error(const LinearParts& quantized, const Tensor& weight, const Tensor& x, Stream& stream) {
  LinearParts parts = quantized;
  parts.bias = parts.input_scales = {};
  LinearParts exact_parts{wrap_unquantized(weight), {}, {}};
  exact_parts.low_rank_a = parts.low_rank_a;
  exact_parts.low_rank_b = parts.low_rank_b;
  Tensor exact(DType::kF32, {x.dim(0), weight.dim(0)}), run(DType::kF32, exact.shape());
  Workspace workspace;
  LinearProduct(std::span(&exact_parts, 1), stream).forward(x, exact, {stream, workspace});
  LinearProduct(std::span(&parts, 1), stream).forward(x, run, {stream, workspace});
  Energies sums;
  add_energies(exact.data<float>(), run.data<float>(), exact.numel(), sums.signal, sums.noise);
  return relative(sums);
}

}  // namespace halftone
