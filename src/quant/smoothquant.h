#pragma once
// SmoothQuant (Xiao et al. 2022): how much of an input's outliers the weights take over.

#include <span>
#include <vector>

#include "quant/round_to_nearest.h"
#include "quant/smoothing.h"
#include "quant/statistics.h"
#include "tensor/stream.h"

namespace halftone {

// s[c] = absmax_x[c]^alpha / absmax_w[c]^(1 - alpha), within [1e-4, 1e4]; 1 where a channel of the input or of the
// weights is always zero. x is divided by s, W's columns are multiplied. Both spans: [channels]. Source: equation 4 of
// the paper; limits as modelopt's smoothquant.
std::vector<float> smoothquant_factors(std::span<const float> absmax_x, std::span<const float> absmax_w, float alpha);

struct SmoothQuantResult {
  std::vector<float> factors;  // [writer channels]
  float alpha = 0;
  double loss = 0, loss_without = 0;  // mean over layers of |E|^2 / |Y|^2, with and without smoothing
};

// The factors of the layers that share an input, with their alpha given.
std::vector<float> smoothquant_factors(std::span<const InputReader> linears, const InputStatistics& statistics,
                                       const ChannelMap& map, float alpha);

// The alpha, of 0, 0.05 .. 1 (every second one first, then the neighbours of the best), with the least loss: the error
// of the layers' outputs, |E|^2 / |Y|^2 of each layer, summed, on the sampled inputs, weights and inputs both rounded as
// `rule` rounds them, the input's scale made for the largest input. Unlike AWQ's loss it counts all outputs of a layer
// together: an error of an input's scale reaches the residual stream as it is, in large and small outputs alike. Factors of 1 when no alpha is better than none; alpha is 0
// then. linears: one or more, that read one input. Deterministic for any number of threads.
// Throws Error when shapes, statistics (rows among them) and map do not fit.
SmoothQuantResult search_smoothquant(std::span<const InputReader> linears, const InputStatistics& statistics,
                                     const ChannelMap& map, const Rounding& rule, Stream& stream);

// What ModelOpt multiplies the input of one layer by, for files equal to its own, not yet rounded to the dtype:
//   p[c] = R(absmax_w[c]^(1 - alpha)) / absmax_x[c]^alpha, within [1e-4, 1e4]
// R: rounding to the dtype. weight: [outputs, inputs] f32. Source: modelopt 0.47 smoothquant.
std::vector<float> modelopt_smoothing(std::span<const float> absmax_x, const Tensor& weight, float alpha, DType dtype);

}  // namespace halftone
