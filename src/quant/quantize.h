#pragma once
// A checkpoint, a recipe and what calibration saw -> quantized linear layers and the tensors that smoothing changed.
// Pure of files: src/driver writes the result with an exporter and reads it back.

#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/progress.h"
#include "quant/calibration.h"
#include "quant/quantization_report.h"
#include "quant/recipe.h"

namespace halftone {

// Takes what quantize() makes as it is made, in an order that depends on the checkpoint and the recipe alone.
struct QuantizedSink {
  // A linear layer, by its name in the checkpoint. A bias is given only where smoothing changed it.
  std::function<void(const std::string& module, const LinearParts& parts)> module;
  // Another tensor with a new value ("model.layers.0.input_layernorm.weight"); dtype and shape are as they were.
  std::function<void(const std::string& name, const Tensor& value)> tensor;
};

// Everything at once, for those who have the memory.
struct QuantizedCheckpoint {
  // By the modules' names in the checkpoint. A bias is given only where smoothing changed it.
  std::map<std::string, LinearParts> modules;
  // Other tensors with new values, by name ("model.layers.0.input_layernorm.weight"); dtype and shape as they were.
  std::map<std::string, Tensor> tensors;
  KvQuantization kv;
  QuantizationReport report;
};

// At any time in memory: what one smoothing reaches (q/k/v and o_proj, or gate/up and down_proj), in f32, or without
// smoothing the rows at hand, and what was made of it. The report has no source_hash: hashing the source takes long and needs
// nothing of this.
//
// A tied head that the recipe quantizes is made from the embedding table, and is a module beside it (untie_for()).
//
// calibration: may be null when neither recipe nor KV format needs it; then no output errors are known.
// Throws Error, before any work, listing every layer whose format does not fit its shape or the layout; for a
// checkpoint that is quantized already; for missing calibration; later for weights that are not finite. The result does
// not depend on the number of threads.
QuantizationReport quantize(const Checkpoint& checkpoint, const Recipe& recipe, const Calibration* calibration,
                            const QuantizedSink& sink, Stream& stream, const Progress& progress = {});
QuantizedCheckpoint quantize(const Checkpoint& checkpoint, const Recipe& recipe, const Calibration* calibration,
                             Stream& stream, const Progress& progress = {});

// What quantize() will make, before it does: names, formats and shapes, with zeros that take no memory as values
// (blank_tensor). Modules of one shape and format share them.
struct QuantizationOutline {
  std::map<std::string, LinearParts> modules;
  std::set<std::string> changing;  // tensors that smoothing may give new values
  KvQuantization kv;               // scales of 1.0
};
QuantizationOutline outline_quantization(const Checkpoint& checkpoint, const Recipe& recipe);

// What quantize() checks first; call it before a long calibration. Throws Error for a checkpoint that is quantized
// already, for rules that match nothing, and for layers that cannot take their format, all of them at once.
void check_recipe(const Checkpoint& checkpoint, const Recipe& recipe);

// One line for each layer that cannot take its format, "model.layers.0.mlp.down_proj: 100 inputs are not a multiple of
// 128".
std::vector<std::string> find_misfits(const Recipe& recipe, std::span<const ModuleInfo> modules);

}  // namespace halftone
