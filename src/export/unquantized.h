#pragma once
// A quantized folder as an unquantized one: what requantizing starts from.

#include <filesystem>

#include "base/progress.h"
#include "hf/checkpoint.h"

namespace halftone {

// What the module multiplies its input with: the decoded weight with its columns in the order of the inputs, the
// low-rank part added, the scales of the input multiplied in. [outputs, inputs] f32.
Tensor effective_weight(const LinearParts& parts);

// Writes model.safetensors (or shards), config.json without its quantization and the other files into `folder`, which
// exists. Weights get the dtype of the embedding table, in a GGUF folder BF16: decoded values that it cannot hold are
// rounded. KV scales are dropped. One weight is in memory at a time. Throws Error for what load_linear() refuses.
void write_unquantized(const Checkpoint& source, const std::filesystem::path& folder, const Progress& progress = {});

}  // namespace halftone
