#pragma once
// Input scales as ModelOpt finds and stores them: each linear layer is searched by itself, layers that share an input
// then take the mean of their scales, and what a norm writes is scaled in the norm, but for SmoothQuant. Scales of other inputs stay with
// their layer ("pre_quant_scale"). SVDQuant splits off its low-rank part after that.
// Sources: modelopt 0.47 awq_lite, awq_clip, svdquant, smoothquant, preprocess_linear_fusion, fuse_prequant_layernorm.

#include <map>
#include <optional>
#include <string>

#include "quant/calibration.h"
#include "quant/fold.h"

namespace halftone {

// What became of one linear layer.
struct Prescaled {
  float alpha = 0;
  std::optional<double> loss, loss_without;  // of the layer's own search, with its best exponent and with 0
  std::vector<float> scales;                 // the input is multiplied by them, [inputs]
  bool folded = false;                       // into the norm that writes the input
  float input_absmax = 0;                    // of the scaled input
  Tensor low_rank_a, low_rank_b;             // [rank, inputs], [outputs, rank] in the checkpoint's dtype, or undefined
  std::vector<float> limits;                 // what scales are made for, of awq_full; empty: the largest weights
};

// AWQ and SVDQuant give scales to the inputs of weights in groups, SmoothQuant to those of INT8 with one scale for all
// inputs. Others (a vision tower in fp8) take none: their own follow every row.
bool takes_input_scales(const Recipe& recipe, const LinearFormat& format);

// What awq_clip finds for a layer as it stands, by itself: Rounding::limits. scales: what its input is multiplied by, or
// empty. Throws Error when the statistics have no rows.
std::vector<float> find_limits(const WorkingModule& module, const LinearFormat& format,
                               const InputStatistics& statistics, const std::vector<float>& scales, Stream& stream);

// Whether the scales of the group's input go into the norm that writes it, so that no layer keeps any: when there is one
// and all its readers take AWQ's scales, but not with a low-rank part, as ModelOpt does.
bool folds_into_norm(const LinearGroup& group, const Recipe& recipe, const FormatTable& formats,
                     const ModuleInfo* writer);

// By canonical module: the readers of the group that take scales. Their weights are scaled in `weights`, and the norm.
// Throws Error when a reader lacks statistics with rows, or readers of one input have different formats.
std::map<std::string, Prescaled> prescale_group(const LinearGroup& group, const Recipe& recipe,
                                                const FormatTable& formats, const Calibration& calibration,
                                                WorkingWeights& weights, Stream& stream);

}  // namespace halftone
