#include "quant/clip.h"

#include <algorithm>
#include <memory>

#include "ops/linear.h"
#include "quant/output_loss.h"

namespace halftone {
namespace {

constexpr int kSteps = 10;  // from 1 down to 0.5
constexpr std::int64_t kLargestGroup = 256;

std::int64_t groups_of(const Tensor& weight, const QuantSpec& spec) {
  return (weight.dim(1) + spec.group - 1) / spec.group;
}

// Columns [first, first + n) as rows: [n, rows].
Tensor transposed(const Tensor& x, std::int64_t first, std::int64_t n) {
  Tensor t(DType::kF32, {n, x.dim(0)});
  for (std::int64_t r = 0; r < x.dim(0); ++r) {
    const float* row = x.data<float>() + r * x.dim(1) + first;
    for (std::int64_t c = 0; c < n; ++c) t.data<float>()[c * x.dim(0) + r] = row[c];
  }
  return t;
}

// A group's loss is d^T (X_g^T X_g) d, d the error of its weights: the middle is a matrix to multiply by.
struct Group {
  std::int64_t first = 0, n = 0;
  std::shared_ptr<const PackedLinear> products;  // [n, n]
};

std::vector<Group> make_groups(const Tensor& rows, std::int64_t group, Stream& stream) {
  std::vector<Group> groups;
  for (std::int64_t first = 0; first < rows.dim(1); first += group) {
    const std::int64_t n = std::min(group, rows.dim(1) - first);
    const Tensor columns = transposed(rows, first, n);
    const Tensor products = outputs_of(columns, columns, {}, stream);
    groups.push_back({first, n, pack_linear(wrap_unquantized(products), {}, {}, stream)});
  }
  return groups;
}

// Of one group in every output. error: [outputs, inputs].
std::vector<double> group_losses(const Group& group, const Tensor& error, Stream& stream) {
  const std::int64_t outputs = error.dim(0), n = group.n;
  Tensor d(DType::kF32, {outputs, n}), y(DType::kF32, {outputs, n});
  for (std::int64_t r = 0; r < outputs; ++r) {
    std::copy_n(error.data<float>() + r * error.dim(1) + group.first, n, d.data<float>() + r * n);
  }
  linear(d, *group.products, y, stream);
  std::vector<double> losses(static_cast<std::size_t>(outputs));
  for (std::int64_t i = 0; i < d.numel(); ++i) {
    losses[static_cast<std::size_t>(i / n)] += static_cast<double>(d.data<float>()[i]) * y.data<float>()[i];
  }
  return losses;
}

// Q(weight clamped to one share everywhere) - weight
Tensor rounding_error(const Tensor& weight, const QuantSpec& spec, const Rounding& rule, float share,
                      std::string_view name, ThreadPool& pool) {
  const std::vector<float> shares(static_cast<std::size_t>(weight.dim(0) * groups_of(weight, spec)), share);
  const Tensor clamped = clamp_groups(weight, spec, shares, pool);
  Tensor error = dequantize(round_to_nearest(clamped, spec, rule, {}, name, pool));
  for (std::int64_t i = 0; i < error.numel(); ++i) error.data<float>()[i] -= weight.data<float>()[i];
  return error;
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
  const std::vector<Group> groups = make_groups(rows, spec.group, stream);
  std::vector<float> best(static_cast<std::size_t>(weight.dim(0)) * groups.size(), 1.0f);
  std::vector<double> least(best.size());
  for (int step = 0; step <= kSteps; ++step) {
    const float share = 1.0f - 0.5f * static_cast<float>(step) / kSteps;
    const Tensor error = rounding_error(weight, spec, rule, share, name, *stream.pool);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const std::vector<double> losses = group_losses(groups[g], error, stream);
      for (std::size_t r = 0; r < losses.size(); ++r) {
        const std::size_t at = r * groups.size() + g;
        if (step > 0 && !(losses[r] < least[at])) continue;
        least[at] = losses[r];
        best[at] = share;
      }
    }
  }
  return best;
}

}  // namespace halftone
