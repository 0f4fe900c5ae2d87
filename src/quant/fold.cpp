#include "quant/fold.h"

#include <algorithm>

#include "quant/awq.h"
#include "quant/round_to_nearest.h"
#include "quant/smoothquant.h"

namespace halftone {
namespace {

Smoothing find_factors(std::span<const InputReader> linears, const ChannelMap& channels, const Recipe& recipe,
                       const Rounding& rule, const InputStatistics& statistics, Stream& stream) {
  if (recipe.algorithm == Algorithm::kAwq) {
    const AwqResult found = search_awq(linears, statistics, channels, rule, stream);
    return {found.factors, found.alpha, found.loss, found.loss_without};
  }
  if (recipe.alpha) {
    return {smoothquant_factors(linears, statistics, channels, *recipe.alpha), *recipe.alpha, {}, {}};
  }
  const SmoothQuantResult found = search_smoothquant(linears, statistics, channels, rule, stream);
  return {found.factors, found.alpha, found.loss, found.loss_without};
}

// What the factors divide, in the writer: the vector that is stored in few bits decides their last places.
void divide_writer(WorkingModule& writer, std::vector<float>& factors) {
  Tensor& vector = writer.info->linear ? writer.bias : writer.weight;
  const DType dtype = writer.info->linear ? writer.bias_dtype : writer.dtype;
  if (vector.defined()) snap_factors(vector, dtype, factors);
  divide_rows(factors, writer.weight);
  writer.weight_changed = true;
  if (writer.bias.defined()) {
    divide_rows(factors, writer.bias);
    writer.bias_changed = true;
  }
}

}  // namespace

Smoothing smooth_group(const LinearGroup& group, const Recipe& recipe, const FormatTable& formats,
                       const InputStatistics& statistics, WorkingWeights& weights, Stream& stream) {
  if (!recipe.smooths() || group.writer.empty()) return {};
  std::vector<InputReader> linears;
  for (const std::string& reader : group.readers) {
    if (!formats.at(reader).quantized()) continue;
    linears.push_back({reader, &weights.get(reader).weight, formats.at(reader)});
    largest_magnitude(*linears.back().weight, reader, *stream.pool);
  }
  if (linears.empty()) return {};
  // what is smoothed is divided in f32: Quantizer::rounding()
  const Rounding rule = rounding_of(recipe.layout, weights.get(linears.front().name).dtype, DType::kF32);
  Smoothing smoothing = find_factors(linears, group.channels, recipe, rule, statistics, stream);
  divide_writer(weights.get(group.writer), smoothing.factors);
  const std::vector<float> columns = spread(smoothing.factors, group.channels);
  for (const std::string& reader : group.readers) {
    WorkingModule& module = weights.get(reader);
    multiply_columns(columns, module.weight);
    module.weight_changed = true;
  }
  return smoothing;
}

InputStatistics smoothed_statistics(const InputStatistics& statistics, const LinearGroup& group,
                                    const Smoothing& smoothing) {
  if (smoothing.factors.empty()) return statistics;
  return scaled(statistics, spread(smoothing.factors, group.channels), Scaling::kDivided);
}

}  // namespace halftone
