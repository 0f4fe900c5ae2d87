#pragma once
// Qwen2-VL's config.json and its tensors. Source: transformers configuration_qwen2_vl.py, modeling_qwen2_vl.py.

#include <vector>

#include "hf/checkpoint.h"
#include "model/config.h"
#include "model/tensor_table.h"

namespace halftone {

// Reads the flat layout (Qwen's own) and the nested one with text_config (re-saved). Throws Error naming file and field
// for what is missing, contradictory, not supported, or larger than any model of this kind (2^17 wide, 1024 layers,
// ...).
ModelConfig read_qwen2_vl_config(const Checkpoint& checkpoint);

// Canonical names and shapes, `stored` not yet known.
std::vector<ModuleInfo> qwen2_vl_table(const ModelConfig& config);

}  // namespace halftone
