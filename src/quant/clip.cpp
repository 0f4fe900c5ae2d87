#include "quant/clip.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace halftone {
namespace {

constexpr int kSteps = 10;  // from 1 down to 0.5
constexpr std::int64_t kLargestGroup = 256;

std::int64_t groups_of(const Tensor& weight, const QuantSpec& spec) {
  return (weight.dim(1) + spec.group - 1) / spec.group;
}

// X_g^T X_g of every group: [groups][n, n], summed in f64 over the samples in their order.
std::vector<std::vector<float>> group_products(const Tensor& rows, std::int64_t group, ThreadPool& pool) {
  const std::int64_t cols = rows.dim(1), groups = (cols + group - 1) / group;
  std::vector<std::vector<float>> products(static_cast<std::size_t>(groups));
  pool.parallel_for(groups, [&](std::int64_t g) {
    const std::int64_t first = g * group, n = std::min(group, cols - first);
    std::vector<double> sums(static_cast<std::size_t>(n * n));
    for (std::int64_t r = 0; r < rows.dim(0); ++r) {
      const float* x = rows.data<float>() + r * cols + first;
      for (std::int64_t i = 0; i < n; ++i) {
        double* out = sums.data() + i * n;
        for (std::int64_t j = 0; j < n; ++j) out[j] += static_cast<double>(x[i]) * x[j];
      }
    }
    products[static_cast<std::size_t>(g)].assign(sums.begin(), sums.end());
  });
  return products;
}

// d^T P d, in f32 by rows of P.
float quadratic_form(const std::vector<float>& p, const float* d, std::int64_t n) {
  float line[kLargestGroup] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    const float* row = p.data() + i * n;
    for (std::int64_t j = 0; j < n; ++j) line[j] += d[i] * row[j];
  }
  float sum = 0;
  for (std::int64_t j = 0; j < n; ++j) sum += line[j] * d[j];
  return sum;
}

}  // namespace

bool can_clip(const QuantSpec& spec) {
  return (spec.element == Element::kInt8 || spec.element == Element::kInt4) &&
         spec.granularity == Granularity::kGroup && spec.group <= kLargestGroup;
}

Tensor clamp_groups(const Tensor& weight, const QuantSpec& spec, std::span<const float> shares, ThreadPool& pool) {
  const std::int64_t cols = weight.dim(1), group = spec.group, groups = groups_of(weight, spec);
  require(std::ssize(shares) == weight.dim(0) * groups, "clip", "expected {} shares, got {}", weight.dim(0) * groups,
          shares.size());
  Tensor clamped = weight.clone();
  pool.parallel_for(weight.dim(0), [&](std::int64_t r) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const float share = shares[static_cast<std::size_t>(r * groups + g)];
      if (share == 1) continue;
      float* begin = clamped.data<float>() + r * cols + g * group;
      float* end = begin + std::min(group, cols - g * group);
      const auto [least, most] = std::minmax_element(begin, end);
      float low = std::min(*least, 0.0f), high = std::max(*most, 0.0f);
      if (!spec.asymmetric) low = -(high = std::max(-low, high));
      for (float* w = begin; w < end; ++w) *w = std::clamp(*w, share * low, share * high);
    }
  });
  return clamped;
}

std::vector<float> search_clip(const Tensor& weight, const QuantSpec& spec, const Rounding& rule, const Tensor& rows,
                               std::string_view name, Stream& stream) {
  require(can_clip(spec), name, "clipping: expected integers in groups of at most {}, got {}", kLargestGroup,
          to_string(spec));
  require(rows.defined() && rows.dim(0) > 0 && rows.dim(1) == weight.dim(1), name,
          "clipping: expected sampled rows of {} inputs", weight.dim(1));
  const std::int64_t cols = weight.dim(1), group = spec.group, groups = groups_of(weight, spec);
  const std::vector<std::vector<float>> products = group_products(rows, group, *stream.pool);
  std::vector<float> best(static_cast<std::size_t>(weight.dim(0) * groups), 1.0f), least(best.size());
  for (int step = 0; step <= kSteps; ++step) {
    const float share = 1.0f - 0.5f * static_cast<float>(step) / kSteps;
    const Tensor clamped = clamp_groups(weight, spec, std::vector<float>(best.size(), share), *stream.pool);
    const QTensor q = round_to_nearest(clamped, spec, rule, {}, name, *stream.pool);
    stream.pool->parallel_for(weight.dim(0), [&](std::int64_t r) {
      static thread_local std::vector<float> error;
      error.resize(static_cast<std::size_t>(cols));
      dequantize_rows(q, r, r + 1, error.data());
      const float* w = weight.data<float>() + r * cols;
      for (std::int64_t c = 0; c < cols; ++c) error[static_cast<std::size_t>(c)] -= w[c];
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto at = static_cast<std::size_t>(r * groups + g);
        const float loss = quadratic_form(products[static_cast<std::size_t>(g)], error.data() + g * group,
                                          std::min(group, cols - g * group));
        if (step > 0 && !(loss < least[at])) continue;
        least[at] = loss;
        best[at] = share;
      }
    });
  }
  return best;
}

}  // namespace halftone
