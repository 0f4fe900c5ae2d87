#pragma once
// Writes quantized checkpoints: the layouts' writers are pure functions from quantized modules to named tensors and
// JSON, and one function puts them into a folder with everything else of the source unchanged.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/progress.h"
#include "hf/checkpoint.h"
#include "hf/layout.h"
#include "hf/safetensors_writer.h"

namespace halftone {

// What replaces one linear layer of the source. An undefined bias: the source's stays. Layout gguf: `blocks`
// as well; bitsandbytes: `nested`.
using ExportModule = LinearParts;

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

// The same piece by piece, for checkpoints that do not fit into memory. The plan says what will come, without values:
// its modules are outlines (formats and shapes, zeros as payload and scales, see blank_tensor(); those of one shape and
// format share their tensors), its KV scales have their number only, and `tensors` is empty; `changing` names the plain
// tensors that may get new values. All others are copied from the source while the work goes on.
class FolderWriter {
 public:
  // `folder` exists and is empty: a PendingFolder's.
  FolderWriter(ExportPlan outline, const std::set<std::string>& changing, std::filesystem::path folder,
               const ExportOptions& options, const Progress& progress);
  ~FolderWriter();
  FolderWriter(const FolderWriter&) = delete;
  FolderWriter& operator=(const FolderWriter&) = delete;

  // One of the outline's modules, with its values. The memory is free once it is written.
  void write_module(const std::string& name, const ExportModule& module);
  // One of `changing`.
  void write_tensor(const std::string& name, const Tensor& tensor);
  // Copies what did not change after all, writes the scales of the cache and config.json, and waits for the disk.
  // Throws Error when a module is missing.
  void finish(const KvQuantization& kv);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone
