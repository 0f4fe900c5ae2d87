#pragma once
// Modules as bitsandbytes stores them.

#include "hf/module_reader.h"

namespace halftone {

// Whether the module is stored in 4 bits.
bool has_nf4(const ModuleReader& tensors);

// Reads M.weight and what stands beside it (quantization_config.h, Storage::kBitsandbytes). The 4-bit codes stay; scales
// are decoded to f32. A block that goes on in the next row is cut: groups are of as many inputs as divide both.
// Throws Error naming the tensor and the rule.
QTensor read_nf4(const ModuleReader& tensors);

}  // namespace halftone
