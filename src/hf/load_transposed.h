#pragma once
// Modules as AutoAWQ and GPTQ store them.

#include "hf/module_reader.h"
#include "hf/quantization_config.h"

namespace halftone {

// Reads M.qweight, M.qzeros, M.scales and (GPTQ) M.g_idx into parts.weight and parts.input_order. `scheme` is kAwq,
// kGptq or kGptqV2. Zero points that are all the middle code make a symmetric weight; with act order, columns are put
// into the order of their groups. Throws Error naming the tensor and the rule.
void read_transposed(const ModuleReader& tensors, const LinearScheme& scheme, LinearParts& parts);

}  // namespace halftone
