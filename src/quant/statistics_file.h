#pragma once
// Calibration statistics from a file, in place of a calibration run: a safetensors file of F32 tensors (docs/statistics.md):
//
//   MODULE.input.absmax         [inputs]        largest |x| of each channel of the layer's input
//   MODULE.input.abs_mean       [inputs]        mean of |x|; absent: AWQ cannot run
//   MODULE.input.rows           [rows, inputs]  inputs of some tokens; absent: no searches, no output errors
//   MODULE.input.clip_rows      [rows, inputs]  the same rows when awq_full clips; absent: as in the first run
//   MODULE.input.row_weights    [rows]          how much each row counts in AWQ's loss; absent: all alike
//   MODULE.input.amax           [1]             largest |x| after scaling; absent: from absmax and the scales
//   MODULE.input.awq_scale      [inputs]        the scales at the exponent that AWQ chooses; absent: computed
//   MODULE.weight.relative_mean [inputs]        AWQ's mean of |W| / largest |W| of its group; absent: computed
//   ATTENTION.k.absmax, ATTENTION.v.absmax      [1], or one a key-value head (k) and channel (v)
//
// MODULE is a canonical name ("model.layers.0.self_attn.q_proj"), ATTENTION "model.layers.0.self_attn".

#include <filesystem>

#include "quant/calibration.h"

namespace halftone {

// For the linear layers of this checkpoint. Throws Error naming file, tensor, what was expected and what was found: an unknown module
// or part, a dtype or shape that does not fit, a value that is NaN, infinite or below 0 (rows may be).
Calibration read_statistics(const std::filesystem::path& path, const Checkpoint& checkpoint);

}  // namespace halftone
