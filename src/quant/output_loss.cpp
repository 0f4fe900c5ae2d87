#include "quant/output_loss.h"

#include "base/error.h"
#include "ops/linear.h"

namespace halftone {

void check_search(std::string_view where, std::span<const InputReader> linears, const InputStatistics& statistics,
                  const ChannelMap& map) {
  const std::size_t inputs = map.writer_of.size();
  require(!linears.empty() && statistics.absmax.size() == inputs && statistics.rows.defined(), where,
          "expected linear layers and statistics with rows of {} inputs, got {} and {}", inputs, linears.size(),
          statistics.absmax.size());
}

Tensor outputs_of(const Tensor& x, const Tensor& weight, const Tensor& bias, Stream& stream) {
  Tensor y(DType::kF32, {x.dim(0), weight.dim(0)});
  linear(x, *pack_linear(wrap_unquantized(weight), bias, {}, stream), y, stream);
  return y;
}

std::vector<double> output_energy(const Tensor& y) {
  std::vector<double> energy(static_cast<std::size_t>(y.dim(1)));
  for (std::int64_t r = 0; r < y.dim(0); ++r) {
    const float* row = y.data<float>() + r * y.dim(1);
    for (std::size_t c = 0; c < energy.size(); ++c) energy[c] += static_cast<double>(row[c]) * row[c];
  }
  return energy;
}

double relative_energy(const Tensor& error, const std::vector<double>& energy) {
  const std::vector<double> moved = output_energy(error);
  double total = 0;
  for (std::size_t r = 0; r < moved.size(); ++r) {
    if (energy[r] > 0) total += moved[r] / energy[r];
  }
  return total;
}

}  // namespace halftone
