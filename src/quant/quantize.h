#pragma once
// A checkpoint, a recipe and what calibration saw -> quantized linear layers and the tensors that smoothing changed.
// Pure of files: src/driver writes the result with an exporter and reads it back.

#include <map>
#include <string>

#include "base/progress.h"
#include "quant/calibration.h"
#include "quant/quantization_report.h"
#include "quant/recipe.h"

namespace halftone {

struct QuantizedCheckpoint {
  // By the modules' names in the checkpoint. A bias is given only where smoothing changed it.
  std::map<std::string, LinearParts> modules;
  // Other tensors with new values, by name ("model.layers.0.input_layernorm.weight"); dtype and shape as they were.
  std::map<std::string, Tensor> tensors;
  KvQuantization kv;
  QuantizationReport report;
};

// calibration: may be null when neither recipe nor KV format needs it; then no output errors are known.
// Throws Error, before any work, listing every layer whose format does not fit its shape or the layout; for a
// checkpoint that is quantized already; for missing calibration; later for weights that are not finite. The result does
// not depend on the number of threads.
QuantizedCheckpoint quantize(const Checkpoint& checkpoint, const Recipe& recipe, const Calibration* calibration,
                             Stream& stream, const Progress& progress = {});

// What quantize() checks first; call it before a long calibration. Throws Error for a checkpoint that is quantized
// already, for rules that match nothing, and for layers that cannot take their format, all of them at once.
void check_recipe(const Checkpoint& checkpoint, const Recipe& recipe);

// One line for each layer that cannot take its format, "model.layers.0.mlp.down_proj: 100 inputs are not a multiple of
// 128".
std::vector<std::string> find_misfits(const Recipe& recipe, std::span<const ModuleInfo> modules);

}  // namespace halftone
