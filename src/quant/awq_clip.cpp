#include "quant/awq_clip.h"

#include <algorithm>
#include <limits>

#include "quant/modelopt_simulation.h"
#include "quant/rounding_job.h"

namespace halftone {
namespace {

using Losses = std::array<double, kClipRatios.size()>;

// The first of the least losses, as torch.where with `<` finds it.
float best_amax(const AwqClipLinear& linear, float amax, const Losses& losses) {
  const auto best = std::min_element(losses.begin(), losses.end()) - losses.begin();
  return round_to(linear.amax_dtype, amax * kClipRatios[static_cast<std::size_t>(best)]);
}

// sum of R(x w), rounded.
float group_output(const float* x, const float* w, std::int64_t n, DType dtype) {
  float sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += round_to(dtype, x[i] * w[i]);
  return round_to(dtype, sum);
}

// One group of one output.
Losses group_losses(const AwqClipLinear& linear, const InputStatistics& inputs, const float* weight, float amax,
                    std::int64_t first, std::int64_t n) {
  const std::int64_t tokens = inputs.rows.dim(0), cols = inputs.rows.dim(1);
  const float* x = inputs.rows.data<float>() + first;
  std::vector<float> wanted(static_cast<std::size_t>(tokens)), rounded(static_cast<std::size_t>(n));
  for (std::int64_t t = 0; t < tokens; ++t) {
    wanted[static_cast<std::size_t>(t)] = group_output(x + t * cols, weight, n, linear.dtype);
  }
  Losses losses{};
  for (std::size_t k = 0; k < losses.size(); ++k) {
    std::copy_n(weight, n, rounded.begin());
    simulate_int4(rounded.data(), n, round_to(linear.amax_dtype, amax * kClipRatios[k]), linear.dtype);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float y = group_output(x + t * cols, rounded.data(), n, linear.dtype);
      const double d = round_to(linear.dtype, y - wanted[static_cast<std::size_t>(t)]);
      losses[k] += row_weight(inputs, t) * d * d;
    }
  }
  return losses;
}

AwqClipResult clip_groups(const AwqClipLinear& linear, const InputStatistics& inputs, Stream& stream) {
  const std::int64_t outputs = linear.weight->dim(0), cols = linear.weight->dim(1), group = linear.spec.group;
  const std::int64_t groups = (cols + group - 1) / group;
  AwqClipResult result;
  result.amax.resize(static_cast<std::size_t>(outputs * groups));
  result.losses.resize(result.amax.size());
  stream.pool->parallel_for(outputs, [&](std::int64_t r) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first = g * group, n = std::min(group, cols - first);
      const auto at = static_cast<std::size_t>(r * groups + g);
      const float* weight = linear.weight->data<float>() + r * cols + first;
      const float amax = absmax_of(weight, n);
      result.losses[at] = group_losses(linear, inputs, weight, amax, first, n);
      result.amax[at] = best_amax(linear, amax, result.losses[at]);
    }
  });
  return result;
}

AwqClipResult clip_tensor(const AwqClipLinear& linear, const InputStatistics& inputs, Stream& stream) {
  const Tensor& weight = *linear.weight;
  const std::int64_t cols = weight.dim(1);
  const float amax = absmax_of(weight.data<float>(), weight.numel());
  const Tensor wanted = product_in(linear.dtype, inputs.rows, weight, {}, stream);
  Losses losses{};
  for (std::size_t k = 0; k < losses.size(); ++k) {
    Tensor rounded = weight.clone();
    const float shrunk = round_to(linear.amax_dtype, amax * kClipRatios[k]);
    stream.pool->parallel_for(weight.dim(0), [&](std::int64_t r) {
      simulate_nvfp4(rounded.data<float>() + r * cols, cols, linear.spec.group, shrunk, linear.dtype);
    });
    const Tensor y = product_in(linear.dtype, inputs.rows, rounded, {}, stream);
    for (std::int64_t t = 0; t < y.dim(0); ++t) {
      losses[k] += row_weight(inputs, t) * squared_difference(y, wanted, t, linear.dtype);
    }
    losses[k] /= static_cast<double>(y.dim(1));
  }
  return {{best_amax(linear, amax, losses)}, {losses}};
}

}  // namespace

AwqClipResult search_awq_clip(const AwqClipLinear& linear, const InputStatistics& inputs, Stream& stream) {
  const QuantSpec& spec = linear.spec;
  require(spec.granularity == Granularity::kGroup && !spec.asymmetric && !spec.mx &&
              (spec.element == Element::kInt4 || spec.element == Element::kE2M1),
          linear.name, "AWQ clipping: expected int4 or nvfp4 weights in groups, got {}", to_string(spec));
  require(inputs.rows.defined() && inputs.rows.dim(0) > 0 && inputs.rows.dim(1) == linear.weight->dim(1), linear.name,
          "AWQ clipping: expected sampled rows of {} inputs", linear.weight->dim(1));
  return spec.element == Element::kInt4 ? clip_groups(linear, inputs, stream) : clip_tensor(linear, inputs, stream);
}

}  // namespace halftone
