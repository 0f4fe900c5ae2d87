#include "quant/awq_lite.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/modelopt_simulation.h"
#include "quant/rounding_job.h"

namespace halftone {
namespace {

constexpr int kSteps = 10;
constexpr float kLow = 1e-4f, kHigh = 1e4f;

// mean over outputs of |W| / (largest |W| of its group + t), each step in the dtype.
std::vector<float> relative_mean(const AwqLiteLinear& linear) {
  const std::int64_t rows = linear.weight->dim(0), cols = linear.weight->dim(1), group = linear.spec.group;
  std::vector<float> sum(static_cast<std::size_t>(cols), 0.0f);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = linear.weight->data<float>() + r * cols;
    for (std::int64_t first = 0; first < cols; first += group) {
      const std::int64_t n = std::min(group, cols - first);
      const float most = round_to(linear.dtype, absmax_of(row + first, n) + smallest_normal(linear.dtype));
      for (std::int64_t c = first; c < first + n; ++c) {
        sum[static_cast<std::size_t>(c)] += round_to(linear.dtype, std::abs(row[c]) / most);
      }
    }
  }
  for (float& s : sum) s = round_to(linear.dtype, s / static_cast<float>(rows));
  return sum;
}

class Search {
 public:
  Search(const AwqLiteLinear& linear, const InputStatistics& statistics, Stream& stream)
      : linear_(linear), statistics_(statistics), stream_(stream), inputs_(linear.weight->dim(1)) {
    const auto n = static_cast<std::size_t>(inputs_);
    require(linear.spec.granularity == Granularity::kGroup &&
                (linear.spec.element == Element::kInt4 || linear.spec.element == Element::kE2M1),
            linear.name, "AWQ: expected int4 or e2m1 weights in groups, got {}", to_string(linear.spec));
    require(statistics.absmax.size() == n && statistics.rows.defined() && statistics.rows.dim(1) == inputs_,
            linear.name, "AWQ: expected statistics and sampled rows of {} inputs, got {}", n, statistics.absmax.size());
    w_ = linear.relative_mean.empty() ? relative_mean(linear) : linear.relative_mean;
    require(w_.size() == n, linear.name, "AWQ: expected means of {} columns, got {}", n, w_.size());
    for (std::size_t c = 0; c < n; ++c) x_.push_back(statistics.sample_mean_abs(c));
    if (linear.bias != nullptr && linear.bias->defined()) bias_ = *linear.bias;
    wanted_ = product_in(linear.dtype, statistics.rows, *linear.weight, bias_, stream);
  }

  std::vector<float> scale(float alpha) const {
    const float other = static_cast<float>(1.0 - static_cast<double>(alpha));
    std::vector<float> s(x_.size());
    for (std::size_t c = 0; c < s.size(); ++c) {
      const float weights = torch_power(w_[c], other) + std::numeric_limits<float>::min();
      s[c] = std::clamp(torch_power(x_[c], alpha) / weights, kLow, kHigh);
    }
    const auto [least, most] = std::minmax_element(s.begin(), s.end());
    const float middle = std::sqrt(*most * *least);
    for (float& value : s) value /= middle;
    return s;
  }

  double loss(const std::vector<float>& s) const {
    Tensor x = statistics_.rows.clone();
    const std::vector<float> p = input_scales(reciprocals(s), linear_.dtype);
    for (std::int64_t r = 0; r < x.dim(0); ++r) {
      float* row = x.data<float>() + r * inputs_;
      for (std::size_t c = 0; c < p.size(); ++c) row[c] = round_to(linear_.dtype, row[c] * p[c]);
    }
    const Tensor y = product_in(linear_.dtype, x, simulated(s), bias_, stream_);
    double total = 0;
    for (std::int64_t r = 0; r < y.dim(0); ++r) {
      total += row_weight(statistics_, r) * squared_difference(y, wanted_, r, linear_.dtype);
    }
    return total / static_cast<double>(y.dim(1));
  }

 private:
  // Q(R(W R(s)))
  Tensor simulated(const std::vector<float>& s) const {
    Tensor w = linear_.weight->clone();
    const auto rows = w.dim(0);
    stream_.pool->parallel_for(rows, [&](std::int64_t r) {
      float* row = w.data<float>() + r * inputs_;
      for (std::size_t c = 0; c < s.size(); ++c) {
        row[c] = round_to(linear_.dtype, row[c] * round_to(linear_.dtype, s[c]));
      }
    });
    const float amax = absmax_of(w.data<float>(), w.numel());
    const std::int64_t group = linear_.spec.group;
    stream_.pool->parallel_for(rows, [&](std::int64_t r) {
      float* row = w.data<float>() + r * inputs_;
      if (linear_.spec.element == Element::kE2M1) return simulate_nvfp4(row, inputs_, group, amax, linear_.dtype);
      for (std::int64_t first = 0; first < inputs_; first += group) {
        const std::int64_t n = std::min(group, inputs_ - first);
        simulate_int4(row + first, n, absmax_of(row + first, n), linear_.dtype);
      }
    });
    return w;
  }

  const AwqLiteLinear& linear_;
  const InputStatistics& statistics_;
  Stream& stream_;
  std::int64_t inputs_;
  std::vector<float> x_, w_;  // [inputs]
  Tensor bias_, wanted_;      // x W^T + b: [tokens, outputs]
};

}  // namespace

double AwqLiteResult::loss() const { return *std::min_element(losses.begin(), losses.end()); }

AwqLiteResult search_awq_lite(const AwqLiteLinear& linear, const InputStatistics& statistics, Stream& stream) {
  const Search search(linear, statistics, stream);
  AwqLiteResult result;
  for (int step = 0; step <= kSteps; ++step) {
    const float alpha = static_cast<float>(0.1 * step);
    std::vector<float> scale = search.scale(alpha);
    const double loss = search.loss(scale);
    if (result.losses.empty() || loss < result.loss()) {
      result.alpha = alpha;
      result.scale = std::move(scale);
    }
    result.losses.push_back(loss);
  }
  return result;
}

std::vector<float> reciprocals(std::vector<float> values) {
  for (float& value : values) value = 1.0f / value;
  return values;
}

std::vector<float> input_scales(std::vector<float> factors, DType dtype) {
  for (float& factor : factors) factor = round_to(dtype, factor);
  return factors;
}

void scale_weight(const std::vector<float>& factors, DType dtype, Tensor& weight) {
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * weight.dim(1);
    for (std::size_t c = 0; c < factors.size(); ++c) row[c] = round_to(dtype, row[c] * (1.0f / factors[c]));
  }
}

std::vector<float> mean_scales(const std::vector<std::vector<float>>& scales, DType dtype) {
  std::vector<float> mean(scales.at(0).size(), 0.0f);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    for (const std::vector<float>& one : scales) mean[c] += one.at(c);
    mean[c] = round_to(dtype, mean[c] / static_cast<float>(scales.size()));
  }
  return mean;
}

void rescale_weight(const std::vector<float>& before, const std::vector<float>& after, DType dtype, Tensor& weight) {
  if (before == after) return;
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * weight.dim(1);
    for (std::size_t c = 0; c < before.size(); ++c) row[c] = round_to(dtype, row[c] * before[c] / after[c]);
  }
}

float scaled_input_absmax(const std::vector<float>& absmax, const std::vector<float>& factors, DType dtype) {
  float most = 0;
  for (std::size_t c = 0; c < factors.size(); ++c) {
    most = std::max(most, round_to(dtype, absmax.at(c)) * factors[c]);
  }
  return round_to(dtype, most);
}

}  // namespace halftone
