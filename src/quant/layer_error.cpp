#include "quant/layer_error.h"

#include <cmath>
#include <vector>

#include "ops/linear.h"

namespace halftone {
namespace {

struct Energies {
  double signal = 0, noise = 0;
};

void add(const float* reference, const float* value, std::int64_t n, Energies& sums) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double exact = reference[i], difference = static_cast<double>(value[i]) - exact;
    sums.signal += exact * exact;
    sums.noise += difference * difference;
  }
}

double relative(const Energies& sums) { return sums.noise == 0 ? 0 : std::sqrt(sums.noise / sums.signal); }

}  // namespace

WeightError weight_error(const QTensor& quantized, const Tensor& weight, ThreadPool& pool) {
  const std::int64_t rows = weight.dim(0), cols = weight.dim(1);
  require(quantized.shape == weight.shape(), "weight_error", "expected {}, got {}", to_string(weight.shape()),
          to_string(quantized.shape));
  std::vector<Energies> of_row(static_cast<std::size_t>(rows));
  pool.parallel_for(rows, [&](std::int64_t r) {
    std::vector<float> decoded(static_cast<std::size_t>(cols));
    dequantize_rows(quantized, r, r + 1, decoded.data());
    add(weight.data<float>() + r * cols, decoded.data(), cols, of_row[static_cast<std::size_t>(r)]);
  });
  Energies total;
  for (const Energies& row : of_row) {
    total.signal += row.signal;
    total.noise += row.noise;
  }
  return {relative(total), 10 * std::log10(total.signal / total.noise)};
}

double output_error(const LinearParts& quantized, const Tensor& weight, const Tensor& x, Stream& stream) {
  Tensor exact(DType::kF32, {x.dim(0), weight.dim(0)}), run(DType::kF32, exact.shape());
  linear(x, *pack_linear(wrap_unquantized(weight), {}, {}, stream), exact, stream);
  linear(x, *pack_linear(quantized.weight, {}, quantized.input, stream), run, stream);
  Energies sums;
  add(exact.data<float>(), run.data<float>(), exact.numel(), sums);
  return relative(sums);
}

}  // namespace halftone
