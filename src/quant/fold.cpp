#include "quant/fold.h"

#include <algorithm>

#include "quant/awq.h"
#include "quant/round_to_nearest.h"
#include "quant/smoothquant.h"

namespace halftone {
namespace {

Smoothing smoothquant(std::span<const std::string> readers, const LinearGroup& group, float alpha,
                      const InputStatistics& statistics, WorkingWeights& weights) {
  std::vector<float> most(statistics.absmax.size(), 0.0f);
  for (const std::string& reader : readers) {
    const std::vector<float> columns = column_absmax(weights.get(reader).weight);
    for (std::size_t c = 0; c < most.size(); ++c) most[c] = std::max(most[c], columns[c]);
  }
  Smoothing smoothing;
  smoothing.alpha = alpha;
  smoothing.factors =
      smoothquant_factors(combine_max(statistics.absmax, group.channels), combine_max(most, group.channels), alpha);
  return smoothing;
}

Smoothing awq(std::span<const std::string> readers, const LinearGroup& group, const FormatTable& formats,
              const InputStatistics& statistics, WorkingWeights& weights, Stream& stream) {
  std::vector<AwqLinear> linears;
  for (const std::string& reader : readers) {
    linears.push_back({reader, &weights.get(reader).weight, formats.at(reader).weights});
  }
  const DType dtype = weights.get(readers.front()).dtype;
  const AwqResult result = search_awq(linears, statistics, group.channels, dtype, stream);
  return {result.factors, result.alpha, result.loss, result.loss_without};
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
  std::vector<std::string> readers;
  for (const std::string& reader : group.readers) {
    if (formats.at(reader).quantized()) readers.push_back(reader);
  }
  if (recipe.algorithm == Algorithm::kRoundToNearest || group.writer.empty() || readers.empty()) return {};
  for (const std::string& reader : readers) largest_magnitude(weights.get(reader).weight, reader, *stream.pool);
  Smoothing smoothing = recipe.algorithm == Algorithm::kAwq
                            ? awq(readers, group, formats, statistics, weights, stream)
                            : smoothquant(readers, group, recipe.alpha, statistics, weights);
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
