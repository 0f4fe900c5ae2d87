#include "quant/awq_lite.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "formats/integer.h"
#include "ops/linear.h"

namespace halftone {
namespace {

constexpr int kSteps = 10;
constexpr float kLow = 1e-4f, kHigh = 1e4f;
constexpr float kZeroAmax = 0x1p-24f;  // the simulation writes zeros for a group that is not larger

float round_to_dtype(float x, DType dtype) {
  if (dtype == DType::kBF16) return bf16::round(x);
  if (dtype == DType::kF16) return f16::decode(f16::encode(x));
  return x;
}

float smallest_normal(DType dtype) { return dtype == DType::kF16 ? 0x1p-14f : std::numeric_limits<float>::min(); }

// The power in f32, as torch.pow: exactly rounded but for the last place.
float power(float base, float exponent) {
  if (exponent == 0) return 1.0f;
  if (exponent == 1) return base;
  if (exponent == 0.5f) return std::sqrt(base);
  return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

float absmax(const float* x, std::int64_t n) {
  float most = 0;
  for (std::int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(x[i]));
  return most;
}

// mean over outputs of |W| / (largest |W| of its group + t), each step in the dtype.
std::vector<float> relative_mean(const AwqLiteLinear& linear) {
  const std::int64_t rows = linear.weight->dim(0), cols = linear.weight->dim(1), group = linear.spec.group;
  std::vector<float> sum(static_cast<std::size_t>(cols), 0.0f);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = linear.weight->data<float>() + r * cols;
    for (std::int64_t first = 0; first < cols; first += group) {
      const std::int64_t n = std::min(group, cols - first);
      const float most = round_to_dtype(absmax(row + first, n) + smallest_normal(linear.dtype), linear.dtype);
      for (std::int64_t c = first; c < first + n; ++c) {
        sum[static_cast<std::size_t>(c)] += round_to_dtype(std::abs(row[c]) / most, linear.dtype);
      }
    }
  }
  for (float& s : sum) s = round_to_dtype(s / static_cast<float>(rows), linear.dtype);
  return sum;
}

// What the tool's simulation makes of one row, in place.
void simulate_int4(float* row, std::int64_t cols, std::int64_t group, DType dtype) {
  constexpr float kMax = integer::kInt4Max, kMin = integer::kInt4Min;
  for (std::int64_t first = 0; first < cols; first += group) {
    const std::int64_t n = std::min(group, cols - first);
    const float amax = absmax(row + first, n);
    const float scale = kMax / amax;
    for (std::int64_t i = first; i < first + n; ++i) {
      const float code = amax <= kZeroAmax ? 0.0f : std::clamp(std::nearbyint(row[i] * scale), kMin, kMax);
      row[i] = amax <= kZeroAmax ? 0.0f : round_to_dtype(code / scale, dtype);
    }
  }
}

void simulate_nvfp4(float* row, std::int64_t cols, std::int64_t group, float global_scale, DType dtype) {
  for (std::int64_t first = 0; first < cols; first += group) {
    const std::int64_t n = std::min(group, cols - first);
    const float wanted = std::min(absmax(row + first, n) / (e2m1::kMax * global_scale), e4m3::kMax);
    const float scale = e4m3::decode(e4m3::encode(wanted)) * global_scale;
    for (std::int64_t i = first; i < first + n; ++i) {
      row[i] = scale == 0 ? 0.0f : round_to_dtype(e2m1::decode(e2m1::encode(row[i] / scale)) * scale, dtype);
    }
  }
}

Tensor product(const Tensor& x, const Tensor& weight, const Tensor& bias, DType dtype, Stream& stream) {
  Tensor y(DType::kF32, {x.dim(0), weight.dim(0)});
  linear(x, *pack_linear(wrap_unquantized(weight), bias, {}, stream), y, stream);
  for (std::int64_t i = 0; i < y.numel(); ++i) y.data<float>()[i] = round_to_dtype(y.data<float>()[i], dtype);
  return y;
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
    for (std::size_t c = 0; c < n; ++c) x_.push_back(static_cast<float>(statistics.mean_abs(c)));
    if (linear.bias != nullptr && linear.bias->defined()) bias_ = *linear.bias;
    wanted_ = product(statistics.rows, *linear.weight, bias_, linear.dtype, stream);
  }

  std::vector<float> scale(float alpha) const {
    const float other = static_cast<float>(1.0 - static_cast<double>(alpha));
    std::vector<float> s(x_.size());
    for (std::size_t c = 0; c < s.size(); ++c) {
      const float weights = power(w_[c], other) + std::numeric_limits<float>::min();
      s[c] = std::clamp(power(x_[c], alpha) / weights, kLow, kHigh);
    }
    const auto [least, most] = std::minmax_element(s.begin(), s.end());
    const float middle = std::sqrt(*most * *least);
    for (float& value : s) value /= middle;
    return s;
  }

  double loss(const std::vector<float>& s) const {
    Tensor x = statistics_.rows.clone();
    const std::vector<float> p = input_scales(s, linear_.dtype);
    for (std::int64_t r = 0; r < x.dim(0); ++r) {
      float* row = x.data<float>() + r * inputs_;
      for (std::size_t c = 0; c < p.size(); ++c) row[c] = round_to_dtype(row[c] * p[c], linear_.dtype);
    }
    const Tensor y = product(x, simulated(s), bias_, linear_.dtype, stream_);
    double total = 0;
    for (std::int64_t r = 0; r < y.dim(0); ++r) total += row_weight(r) * row_error(y, r);
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
        row[c] = round_to_dtype(row[c] * round_to_dtype(s[c], linear_.dtype), linear_.dtype);
      }
    });
    const float global_scale = absmax(w.data<float>(), w.numel()) / (e2m1::kMax * e4m3::kMax);
    stream_.pool->parallel_for(rows, [&](std::int64_t r) {
      float* row = w.data<float>() + r * inputs_;
      if (linear_.spec.element == Element::kInt4) {
        simulate_int4(row, inputs_, linear_.spec.group, linear_.dtype);
      } else {
        simulate_nvfp4(row, inputs_, linear_.spec.group, global_scale, linear_.dtype);
      }
    });
    return w;
  }

  double row_weight(std::int64_t r) const {
    const auto& weights = statistics_.row_weights;
    return weights.empty() ? 1.0 / static_cast<double>(statistics_.rows.dim(0))
                           : static_cast<double>(weights[static_cast<std::size_t>(r)]);
  }

  double row_error(const Tensor& y, std::int64_t r) const {
    const std::int64_t outputs = y.dim(1);
    double sum = 0;
    for (std::int64_t i = r * outputs; i < (r + 1) * outputs; ++i) {
      const double d = round_to_dtype(y.data<float>()[i] - wanted_.data<float>()[i], linear_.dtype);
      sum += d * d;
    }
    return sum;
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

std::vector<float> input_scales(const std::vector<float>& scale, DType dtype) {
  std::vector<float> p;
  for (const float s : scale) p.push_back(round_to_dtype(1.0f / s, dtype));
  return p;
}

void scale_weight(const std::vector<float>& scale, DType dtype, Tensor& weight) {
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * weight.dim(1);
    for (std::size_t c = 0; c < scale.size(); ++c) {
      row[c] = round_to_dtype(row[c] * (1.0f / (1.0f / scale[c])), dtype);
    }
  }
}

std::vector<float> mean_scales(const std::vector<std::vector<float>>& scales, DType dtype) {
  std::vector<float> mean(scales.at(0).size(), 0.0f);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    for (const std::vector<float>& one : scales) mean[c] += one.at(c);
    mean[c] = round_to_dtype(mean[c] / static_cast<float>(scales.size()), dtype);
  }
  return mean;
}

void rescale_weight(const std::vector<float>& before, const std::vector<float>& after, DType dtype, Tensor& weight) {
  if (before == after) return;
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * weight.dim(1);
    for (std::size_t c = 0; c < before.size(); ++c) row[c] = round_to_dtype(row[c] * before[c] / after[c], dtype);
  }
}

float scaled_input_absmax(const std::vector<float>& absmax, const std::vector<float>& factors, DType dtype) {
  float most = 0;
  for (std::size_t c = 0; c < factors.size(); ++c) {
    most = std::max(most, round_to_dtype(absmax.at(c), dtype) * factors[c]);
  }
  return round_to_dtype(most, dtype);
}

}  // namespace halftone
