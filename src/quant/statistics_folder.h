#pragma once
// Statistics in a folder: `statistics.json` (who reads which input, how many tokens of which class) beside
// `model.safetensors`. For input N of the JSON the tensors are
//   N.absmax, N.text.absmax, N.picture.absmax     F32 [inputs]   largest |x| of a channel, of all tokens and by class
//   N.abs_sum, N.text.abs_sum, N.picture.abs_sum  F64 [inputs]   sum of |x|
//   N.histogram  I64 [bins], N.width  F32 [1]                    of |x| over all channels
//   N.rows  F32 [rows, inputs]                                   inputs of some tokens
// and for layer N's keys and values kv.N.k, kv.N.k_debiased F32 [kv_heads], kv.N.v F32 [kv_heads * head_dim].

#include <filesystem>

#include "quant/calibration.h"

namespace halftone {

// Into an existing, empty folder.
void write_statistics_folder(const std::filesystem::path& folder, const Calibration& calibration);

// Rows are a view of the file, which must stay. made_from is empty. Throws Error naming file and tensor.
Calibration read_statistics_folder(const std::filesystem::path& folder);

}  // namespace halftone
