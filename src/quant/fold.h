#pragma once
// Smoothing one group of linear layers inside a checkpoint: finds the factors and folds them into what writes the
// input.

#include <map>
#include <optional>

#include "quant/linear_groups.h"
#include "quant/recipe.h"
#include "quant/statistics.h"
#include "quant/working_weights.h"
#include "tensor/stream.h"

namespace halftone {

struct Smoothing {
  std::vector<float> factors;  // of the writer's channels; empty: nothing was smoothed
  float alpha = 0;
  std::optional<double> loss, loss_without;  // of the search, where there was one
};

using FormatTable = std::map<std::string, LinearFormat>;  // by canonical module

// Multiplies the readers' columns and divides the writer (a norm's weight, or a linear layer's rows and bias). Nothing
// happens to a group without a writer or without a quantized reader. statistics: of the readers' input.
Smoothing smooth_group(const LinearGroup& group, const Recipe& recipe, const FormatTable& formats,
                       const InputStatistics& statistics, WorkingWeights& weights, Stream& stream);

// The statistics of x / s.
InputStatistics smoothed_statistics(const InputStatistics& statistics, const LinearGroup& group,
                                    const Smoothing& smoothing);

}  // namespace halftone
