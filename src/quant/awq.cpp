#include "quant/awq.h"

#include <algorithm>
#include <cmath>

#include "quant/output_loss.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

constexpr float kTiny = 1e-4f, kLow = 1e-4f, kHigh = 1e4f;
constexpr int kCoarse = 2, kSteps = 20;  // alpha in steps of 1/20, every second one first

struct Candidate {
  int step = 0;  // alpha * kSteps
  bool duo = false;
  float alpha() const { return static_cast<float>(step) / kSteps; }
};

// mean over rows of |W[r, c]| / (largest of the row's group around c), summed into `sum`.
void add_relative_magnitude(const Tensor& weight, std::int64_t group, std::vector<double>& sum) {
  const std::int64_t cols = weight.dim(1);
  if (group <= 0) group = cols;
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    const float* row = weight.data<float>() + r * cols;
    for (std::int64_t first = 0; first < cols; first += group) {
      const std::int64_t last = std::min(cols, first + group);
      float most = std::numeric_limits<float>::min();
      for (std::int64_t c = first; c < last; ++c) most = std::max(most, std::abs(row[c]));
      for (std::int64_t c = first; c < last; ++c) sum[static_cast<std::size_t>(c)] += std::abs(row[c]) / most;
    }
  }
}

class Search {
 public:
  Search(std::span<const InputReader> linears, const InputStatistics& statistics, const ChannelMap& map,
         const Rounding& rule, Stream& stream)
      : linears_(linears), statistics_(statistics), map_(map), rule_(rule), stream_(stream) {
    check_search("awq", linears, statistics, map);
    const std::size_t inputs = map.writer_of.size();
    std::vector<float> x(inputs), w(inputs);
    std::vector<double> w_sum(inputs);
    for (const InputReader& linear : linears) {
      require(linear.weight->dim(1) == static_cast<std::int64_t>(inputs), linear.name, "expected {} inputs, got {}",
              inputs, linear.weight->dim(1));
      add_relative_magnitude(*linear.weight, linear.format.weights.group, w_sum);
      outputs_ += linear.weight->dim(0);
      energy_.push_back(output_energy(outputs_of(statistics.rows, *linear.weight, {}, stream)));
    }
    for (std::size_t c = 0; c < inputs; ++c) {
      x[c] = static_cast<float>(statistics.mean_abs(c));
      w[c] = static_cast<float>(w_sum[c] / static_cast<double>(outputs_));
    }
    x_ = combine_mean(x, map);
    w_ = combine_mean(w, map);
  }

  std::vector<float> factors(const Candidate& candidate) const {
    const float a = candidate.alpha();
    std::vector<float> s(x_.size(), 1.0f);
    float least = kHigh, most = kLow;
    for (std::size_t c = 0; c < s.size(); ++c) {
      if (x_[c] == 0) continue;
      const float weights = candidate.duo ? std::pow(w_[c], 1 - a) + kTiny : 1.0f;
      s[c] = std::clamp(std::pow(x_[c], a) / weights, kLow, kHigh);
      least = std::min(least, s[c]);
      most = std::max(most, s[c]);
    }
    const float middle = std::sqrt(least * most);
    for (std::size_t c = 0; c < s.size(); ++c) {
      if (x_[c] != 0) s[c] /= middle;
    }
    return s;
  }

  double loss(std::span<const float> factors) const {
    const std::vector<float> s = spread(factors, map_);
    double total = 0;
    for (std::size_t i = 0; i < linears_.size(); ++i) {
      total += relative_energy(outputs_of(statistics_.rows, error_of(linears_[i], s), {}, stream_), energy_[i]);
    }
    return total / static_cast<double>(outputs_);
  }

 private:
  // Q(W * s) / s - W
  Tensor error_of(const InputReader& linear, std::span<const float> s) const {
    Tensor scaled = linear.weight->clone();
    multiply_columns(s, scaled);
    Rounding rule = rule_;
    rule.four_over_six = linear.format.four_over_six;
    const QTensor q = round_to_nearest(scaled, linear.format.weights, rule, {}, linear.name, *stream_.pool);
    Tensor error(DType::kF32, scaled.shape());
    const std::int64_t cols = scaled.dim(1);
    stream_.pool->parallel_for(scaled.dim(0), [&](std::int64_t r) {
      float* row = error.data<float>() + r * cols;
      const float* weight = linear.weight->data<float>() + r * cols;
      dequantize_rows(q, r, r + 1, row);
      for (std::int64_t c = 0; c < cols; ++c) row[c] = row[c] / s[static_cast<std::size_t>(c)] - weight[c];
    });
    return error;
  }

  std::span<const InputReader> linears_;
  const InputStatistics& statistics_;
  const ChannelMap& map_;
  const Rounding& rule_;
  Stream& stream_;
  std::vector<float> x_, w_;                 // [writer channels]
  std::vector<std::vector<double>> energy_;  // of each linear: [outputs]
  std::int64_t outputs_ = 0;
};

}  // namespace

AwqResult search_awq(std::span<const InputReader> linears, const InputStatistics& statistics, const ChannelMap& map,
                     const Rounding& rule, Stream& stream) {
  const Search search(linears, statistics, map, rule, stream);
  Candidate best;
  AwqResult result;
  result.loss = result.loss_without =
      search.loss(std::vector<float>(static_cast<std::size_t>(map.writer_channels), 1.0f));
  const auto try_candidate = [&](const Candidate& candidate) {
    const double loss = search.loss(search.factors(candidate));
    if (loss < result.loss) {
      result.loss = loss;
      best = candidate;
    }
  };
  for (int step = 0; step <= kSteps; step += kCoarse) {
    if (step > 0) try_candidate({step, false});
    try_candidate({step, true});
  }
  const Candidate coarse = best;
  for (const int step : {coarse.step - 1, coarse.step + 1}) {
    if (step >= 0 && step <= kSteps) try_candidate({step, coarse.duo});
  }
  result.alpha = best.alpha();
  result.duo = best.duo;
  result.factors = search.factors(best);
  return result;
}

}  // namespace halftone
