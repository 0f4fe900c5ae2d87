#include "quant/awq_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/bf16.h"
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

// The sum of n numbers in f32 in the order of torch on AVX2, for bf16 and f16 in memory: sixteen at a time, in four
// accumulators of eight lanes. Another order moves a sum of bf16 now and then by its last place, and shares that nearly
// tie change.
float sum_by_lanes(const float* x, std::int64_t n) {
  constexpr std::int64_t kLanes = 8, kAccumulators = 4;
  float sums[kAccumulators][kLanes] = {};
  const std::int64_t steps = n / (2 * kLanes), whole = steps / kAccumulators * kAccumulators;
  for (std::int64_t i = 0; i < steps; ++i) {
    float* sum = sums[i < whole ? i % kAccumulators : 0];
    const float* values = x + i * 2 * kLanes;
    for (std::int64_t k = 0; k < kLanes; ++k) sum[k] += values[k] + values[kLanes + k];
  }
  for (std::int64_t a = 1; a < kAccumulators; ++a) {
    for (std::int64_t k = 0; k < kLanes; ++k) sums[0][k] += sums[a][k];
  }
  float total = 0;
  for (std::int64_t i = steps * 2 * kLanes; i < n; ++i) total += x[i];
  for (const float lane : sums[0]) total += lane;
  return total;
}

// How torch 2.15 on AVX2 adds numbers in f32: another order moves the sum by a last place, and shares of the clipping
// that nearly tie change. It depends on how many sums lie side by side (aten/src/ATen/native/cpu/SumKernel.cpp).
enum class RowOrder : std::uint8_t { kOneChain, kFourChains, kLanes };

RowOrder row_order(std::int64_t group, std::int64_t groups, std::int64_t rows) {
  constexpr std::int64_t kLanes = 8, kChains = 4;
  if (groups == 1) return rows < kLanes ? RowOrder::kFourChains : RowOrder::kLanes;
  const std::int64_t together = groups < kLanes ? kChains : kLanes * kChains;
  return group < groups / together * together ? RowOrder::kOneChain : RowOrder::kFourChains;
}

// One chain: n numbers, each `step` after the last, sixteen by sixteen.
float sum_by_sixteen(const float* x, std::int64_t n, std::int64_t step) {
  float total = 0, part = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    part += x[i * step];
    if (i % 16 != 15) continue;
    total += part;
    part = 0;
  }
  return part + total;
}

float sum_in_four_chains(const float* x, std::int64_t n, std::int64_t step) {
  constexpr std::int64_t kChains = 4;
  const std::int64_t whole = n / kChains;
  float sums[kChains];
  for (std::int64_t k = 0; k < kChains; ++k) sums[k] = sum_by_sixteen(x + k * step, whole, kChains * step);
  for (std::int64_t i = whole * kChains; i < n; ++i) sums[0] += x[i * step];
  return sums[0] + sums[1] + sums[2] + sums[3];
}

float sum_rows(const float* x, std::int64_t n, RowOrder order) {
  if (order == RowOrder::kOneChain) return sum_by_sixteen(x, n, 1);
  if (order == RowOrder::kFourChains) return sum_in_four_chains(x, n, 1);
  constexpr std::int64_t kLanes = 8;
  float total = 0;
  for (std::int64_t i = n / kLanes * kLanes; i < n; ++i) total += x[i];
  for (std::int64_t k = 0; k < kLanes; ++k) total += sum_in_four_chains(x + k, n / kLanes, kLanes);
  return total;
}

// sum of R(x w), rounded. products: room for n.
float group_output(const float* x, const float* w, std::int64_t n, DType dtype, float* products) {
  if (dtype == DType::kBF16) {  // the usual dtype, without a call for each product
    for (std::int64_t i = 0; i < n; ++i) products[i] = bf16::round(x[i] * w[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) products[i] = round_to(dtype, x[i] * w[i]);
  }
  if (dtype == DType::kF32) return sum_rows(products, n, row_order(0, 1, n));
  return round_to(dtype, sum_by_lanes(products, n));
}

// The sum over batches of the mean over a batch's tokens, in f32 as the tool has it, because shares tie in f32 that do
// not tie in f64. Rows that count 1 / n are batches of n.
float batch_loss(const InputStatistics& inputs, const std::vector<float>& squares, std::int64_t group,
                 std::int64_t groups) {
  float loss = 0;
  const std::int64_t tokens = std::ssize(squares);
  for (std::int64_t first = 0; first < tokens;) {
    const auto wanted = static_cast<std::int64_t>(std::llround(1 / row_weight(inputs, first)));
    const std::int64_t n = std::clamp<std::int64_t>(wanted, 1, tokens - first);
    loss += sum_rows(squares.data() + first, n, row_order(group, groups, n)) / static_cast<float>(n);
    first += n;
  }
  return loss;
}

// One group of one output.
Losses group_losses(const AwqClipLinear& linear, const InputStatistics& inputs, const float* weight, float amax,
                    std::int64_t first, std::int64_t n) {
  const std::int64_t tokens = inputs.rows.dim(0), cols = inputs.rows.dim(1);
  const float* x = inputs.rows.data<float>() + first;
  std::vector<float> wanted(static_cast<std::size_t>(tokens)), squares(wanted.size());
  std::vector<float> rounded(static_cast<std::size_t>(n)), products(rounded.size());
  for (std::int64_t t = 0; t < tokens; ++t) {
    wanted[static_cast<std::size_t>(t)] = group_output(x + t * cols, weight, n, linear.dtype, products.data());
  }
  Losses losses{};
  for (std::size_t k = 0; k < losses.size(); ++k) {
    std::copy_n(weight, n, rounded.begin());
    simulate_int4(rounded.data(), n, round_to(linear.amax_dtype, amax * kClipRatios[k]), linear.dtype);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float y = group_output(x + t * cols, rounded.data(), n, linear.dtype, products.data());
      const float d = round_to(linear.dtype, y - wanted[static_cast<std::size_t>(t)]);
      squares[static_cast<std::size_t>(t)] = d * d;
    }
    losses[k] =
        batch_loss(inputs, squares, first / linear.spec.group, (cols + linear.spec.group - 1) / linear.spec.group);
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
