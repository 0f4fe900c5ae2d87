#include "quant/smoothquant.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ops/linear.h"
#include "quant/modelopt_simulation.h"
#include "quant/output_loss.h"
#include "quant/rounding_job.h"

namespace halftone {
namespace {

constexpr float kNothing = 0x1p-31f;  // no activation that matters is this small
constexpr float kLow = 1e-4f, kHigh = 1e4f;
constexpr int kCoarse = 2, kSteps = 20;  // alpha in steps of 1/20, every second one first

double sum_of_squares(const Tensor& y) {
  double sum = 0;
  for (const double energy : output_energy(y)) sum += energy;
  return sum;
}

class Search {
 public:
  Search(std::span<const InputReader> linears, const InputStatistics& statistics, const ChannelMap& map,
         const Rounding& rule, Stream& stream)
      : linears_(linears), statistics_(statistics), map_(map), rule_(rule), stream_(stream) {
    check_search("smoothquant", linears, statistics, map);
    for (const InputReader& linear : linears) {
      wanted_.push_back(outputs_of(statistics.rows, *linear.weight, {}, stream));
    }
  }

  double loss(std::span<const float> factors) const {
    const std::vector<float> s = spread(factors, map_);
    Tensor x = statistics_.rows.clone();
    float amax = 0;
    for (std::size_t c = 0; c < s.size(); ++c) amax = std::max(amax, statistics_.absmax[c] / s[c]);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      x.data<float>()[i] /= s[static_cast<std::size_t>(i % x.dim(1))];
    }
    double total = 0;
    for (std::size_t i = 0; i < linears_.size(); ++i) {
      const double energy = sum_of_squares(wanted_[i]);
      if (energy > 0) total += sum_of_squares(error_of(i, s, x, amax)) / energy;
    }
    return total / static_cast<double>(linears_.size());
  }

 private:
  // Qx(x / s) Q(W * s) - x W. smoothed: x / s, largest magnitude amax.
  Tensor error_of(std::size_t i, std::span<const float> s, const Tensor& smoothed, float amax) const {
    const InputReader& linear = linears_[i];
    Tensor weight = linear.weight->clone();
    multiply_columns(s, weight);
    Rounding rule = rule_;
    rule.four_over_six = linear.format.four_over_six;
    const QTensor q = round_to_nearest(weight, linear.format.weights, rule, {}, linear.name, *stream_.pool);
    const InputQuant input = static_input(linear.format.inputs, amax, rule_);
    Tensor y(DType::kF32, wanted_[i].shape());
    halftone::linear(smoothed, *pack_linear(q, {}, input, stream_), y, stream_);
    for (std::int64_t j = 0; j < y.numel(); ++j) y.data<float>()[j] -= wanted_[i].data<float>()[j];
    return y;
  }

  std::span<const InputReader> linears_;
  const InputStatistics& statistics_;
  const ChannelMap& map_;
  const Rounding& rule_;
  Stream& stream_;
  std::vector<Tensor> wanted_;  // of each linear: [samples, outputs]
};

}  // namespace

std::vector<float> smoothquant_factors(std::span<const float> absmax_x, std::span<const float> absmax_w, float alpha) {
  require(absmax_x.size() == absmax_w.size(), "smoothquant", "expected {} channels, got {}", absmax_x.size(),
          absmax_w.size());
  require(alpha >= 0 && alpha <= 1, "smoothquant", "expected alpha within 0 and 1, got {}", alpha);
  std::vector<float> factors(absmax_x.size(), 1.0f);
  for (std::size_t c = 0; c < factors.size(); ++c) {
    if (absmax_x[c] <= kNothing || absmax_w[c] <= kNothing) continue;
    const float factor = std::pow(absmax_x[c], alpha) / std::pow(absmax_w[c], 1 - alpha);
    factors[c] = std::clamp(factor, kLow, kHigh);
  }
  return factors;
}

std::vector<float> smoothquant_factors(std::span<const InputReader> linears, const InputStatistics& statistics,
                                       const ChannelMap& map, float alpha) {
  std::vector<float> most(statistics.absmax.size(), 0.0f);
  for (const InputReader& linear : linears) {
    const std::vector<float> columns = column_absmax(*linear.weight);
    require(columns.size() == most.size(), linear.name, "expected {} inputs, got {}", most.size(), columns.size());
    for (std::size_t c = 0; c < most.size(); ++c) most[c] = std::max(most[c], columns[c]);
  }
  return smoothquant_factors(combine_max(statistics.absmax, map), combine_max(most, map), alpha);
}

SmoothQuantResult search_smoothquant(std::span<const InputReader> linears, const InputStatistics& statistics,
                                     const ChannelMap& map, const Rounding& rule, Stream& stream) {
  const Search search(linears, statistics, map, rule, stream);
  SmoothQuantResult best;
  best.factors.assign(static_cast<std::size_t>(map.writer_channels), 1.0f);
  best.loss = best.loss_without = search.loss(best.factors);
  int best_step = -1;
  const auto try_step = [&](int step) {
    if (step < 0 || step > kSteps) return;
    const float alpha = static_cast<float>(step) / kSteps;
    std::vector<float> factors = smoothquant_factors(linears, statistics, map, alpha);
    const double loss = search.loss(factors);
    if (!(loss < best.loss)) return;
    best = {std::move(factors), alpha, loss, best.loss_without};
    best_step = step;
  };
  for (int step = 0; step <= kSteps; step += kCoarse) try_step(step);
  const int coarse = best_step;
  if (coarse >= 0) {
    try_step(coarse - 1);
    try_step(coarse + 1);
  }
  return best;
}

std::vector<float> modelopt_smoothing(std::span<const float> absmax_x, const Tensor& weight, float alpha, DType dtype) {
  std::vector<float> p = column_absmax(weight);
  require(p.size() == absmax_x.size(), "smoothquant", "expected {} channels, got {}", p.size(), absmax_x.size());
  const auto other = static_cast<float>(1.0 - static_cast<double>(alpha));
  for (std::size_t c = 0; c < p.size(); ++c) {
    p[c] = round_to(dtype, torch_power(p[c], other)) / torch_power(absmax_x[c], alpha);
  }
  // the tool looks for channels without input only where some scale is this small
  const bool some = std::any_of(p.begin(), p.end(), [](float value) { return value <= kNothing; });
  for (std::size_t c = 0; c < p.size(); ++c) {
    if (some && absmax_x[c] <= kNothing) p[c] = 1;
    p[c] = std::clamp(p[c], kLow, kHigh);
  }
  return p;
}

}  // namespace halftone
