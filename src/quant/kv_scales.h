#pragma once
#include <span>
#include <string_view>

#include "hf/checkpoint.h"
#include "quant/statistics.h"

namespace halftone {

// Scales of a cache from the largest magnitudes, by layer: amax / 448 for FP8, amax / 127 for INT8 (ModelOpt's and
// TensorRT-LLM's rules; an amax of 0 gives 1).
//   fp8_calibrated, fp8_debiased, int8_calibrated: one for K, one for V.  fp8_head, int8_head: one for each key-value
//   head.  bf16, fp8: none.
// v_factors: by layer, what smoothing divides the channels of V by ([kv_heads * head_dim], empty where it does
// nothing).
KvQuantization kv_scales(std::string_view format, std::span<const KvStatistics> layers,
                         std::span<const std::vector<float>> v_factors);

}  // namespace halftone
