#pragma once
// AWQ, activation-aware weight quantization (Lin et al. 2023): input channels with large activations are scaled up
// before the weights are rounded, down again in the activations. The exponent is searched on the calibration inputs.
//
//   s = x^alpha                      ("plain"; alpha = 0 changes nothing)   x: mean |input| of a channel
//   s = x^alpha / (w^(1-alpha) + t)  ("duo")                                w: mean of |W| / largest |W| of its group
//   s /= sqrt(max s * min s), within [1e-4, 1e4]; channels whose input is always zero keep 1
//
// One s for all linear layers that share the input, chosen by the summed loss
//   sum over outputs r of  |X (Q(W * s) / s - W)_r|^2 / |X W_r|^2
// with X the sampled inputs (quant/output_loss.h).
// Sources: llm-awq auto_scale.py, AutoAWQ quantizer.py, modelopt awq_lite.

#include <span>
#include <vector>

#include "quant/round_to_nearest.h"
#include "quant/smoothing.h"
#include "quant/statistics.h"
#include "tensor/stream.h"

namespace halftone {

struct AwqResult {
  std::vector<float> factors;  // [writer channels]
  float alpha = 0;
  bool duo = false;
  double loss = 0, loss_without = 0;  // mean over outputs of the relative squared error, with and without scaling
};

// linears: those of one input that are quantized, one or more, rounded as `rule` says. Deterministic for any number of
// threads.
// Throws Error when shapes, statistics and map do not fit.
AwqResult search_awq(std::span<const InputReader> linears, const InputStatistics& statistics, const ChannelMap& map,
                     const Rounding& rule, Stream& stream);

}  // namespace halftone
