#pragma once
// Writes quantized checkpoints: the layouts' writers are pure functions from quantized modules to named tensors and
// JSON, and one function puts them into a folder with everything else of the source unchanged.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "hf/checkpoint.h"
#include "hf/layout.h"
#include "hf/safetensors_writer.h"

namespace halftone {

// What replaces one linear layer of the source.
struct ExportModule {
  QTensor weight;
  InputQuant input;
  Tensor bias;          // a new bias; undefined: the source's stays
  Tensor input_scales;  // as in LinearParts, all of these
  Tensor low_rank_a, low_rank_b;
  bool prescaled = false;
  float fp8_weight_scale = 0;
  Tensor blocks{};  // layout gguf: the rows as they are written (LinearParts::blocks)
};

struct ExportPlan {
  Checkpoint source;
  Layout layout = Layout::kAsIs;                // kAsIs: no modules may be given
  std::map<std::string, ExportModule> modules;  // by the module's name in the source ("model.layers.0.mlp.up_proj")
  std::map<std::string, Tensor> tensors;        // plain tensors with new values (a smoothed norm), dtype and shape kept
  KvQuantization kv;
  std::string recipe;  // recorded in config.json
};

struct ExportOptions {
  std::int64_t max_shard_bytes = kDefaultShardBytes;
  bool replace = false;  // an existing folder
};

// Writes the folder: replaced tensors in their layout, all others byte for byte, config.json with its fields in their
// order and quantization_config added, the tokenizer's, processor's and generation files as they are. The folder
// appears under its name when it is complete. Throws Error naming the tensor: a module that the source lacks, a shape
// that differs, a format that the layout cannot store, a scale that is not of the layout's dtype (compressed-tensors:
// the model's; ModelOpt: F32, for blocks F8_E4M3) or that it cannot hold exactly, a source that is
// quantized already.
void export_checkpoint(const ExportPlan& plan, const std::filesystem::path& folder, const ExportOptions& options = {},
                       const Progress& progress = {});

}  // namespace halftone
