#pragma once
// ModelOpt's names of what its unified checkpoints hold ("quant_algo"): one table for reader and writer.
// Source: process_layer_quant_config of modelopt/torch/export/quant_utils.py, 0.47.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "hf/quantization_config.h"

namespace halftone {

struct ModelOptAlgorithm {
  std::string_view name;
  LinearScheme scheme;
  bool states_group = false;  // the file has group_size; int4 may have another one than the table's
  bool states_awq = false;    // the file has has_zero_point and pre_quant_scale
};

std::span<const ModelOptAlgorithm> modelopt_algorithms();

// By name, letters of either case. Nothing when there is none.
const ModelOptAlgorithm* find_modelopt_algorithm(std::string_view name);

// "FP8, FP8_PER_CHANNEL_PER_TOKEN, ..."
std::string modelopt_algorithm_names();

}  // namespace halftone
