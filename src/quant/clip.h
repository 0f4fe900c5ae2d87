#pragma once
// Clipping, AWQ's second half: the range that a group's scale is made for shrinks, so that the many small weights get
// finer steps and the few large ones are cut. Each group of each output takes the share with the least
//
//   |X_g (Q(clamp(w, share * range of w)) - w)|^2,   share = 1, 0.95 .. 0.5
//
// w: the weights of one output under one scale, X_g: their columns of the sampled inputs, Q: rounding to the format.
// Query and key projections are better left alone (the caller's choice): their outputs multiply each other.
// Sources: Lin et al. 2023; AutoAWQ quantizer.py _compute_best_clip. (quant/awq_clip.h is ModelOpt's, to the bit.)

#include <span>
#include <string_view>
#include <vector>

#include "quant/round_to_nearest.h"
#include "tensor/stream.h"

namespace halftone {

// Whether weights of this format can be clipped: INT8 and INT4 in groups of at most 256.
bool can_clip(const QuantSpec& spec);

// The shares of all groups, [outputs * groups]. weight: [outputs, inputs] f32, spec: one that can be clipped, rows:
// [samples, inputs] f32. Deterministic for any number of threads. Throws Error when shapes or format do not fit.
std::vector<float> search_clip(const Tensor& weight, const QuantSpec& spec, const Rounding& rule, const Tensor& rows,
                               std::string_view name, Stream& stream);

// The weight with each group clamped to its share of its range, which is [min(w, 0), max(w, 0)] for asymmetric formats,
// [-max |w|, max |w|] for others.
Tensor clamp_groups(const Tensor& weight, const QuantSpec& spec, std::span<const float> shares, ThreadPool& pool);

}  // namespace halftone
