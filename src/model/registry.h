#pragma once
// The architectures that this program knows: one row each.

#include <memory>
#include <string_view>

#include "model/parts.h"
#include "model/tensor_table.h"

namespace halftone {

struct Architecture {
  std::string_view model_type;  // of config.json
  ModelConfig (*read_config)(const Checkpoint& checkpoint);
  std::vector<ModuleInfo> (*table)(const ModelConfig& config);
  std::unique_ptr<Encoder> (*make_encoder)(const VisionConfig& config, const Weights& weights, Numerics numerics,
                                           Stream& stream);
  std::unique_ptr<Projector> (*make_projector)(const VisionConfig& config, const Weights& weights, Numerics numerics,
                                               Stream& stream);
  std::unique_ptr<Decoder> (*make_decoder)(const DecoderConfig& config, const Weights& weights, Numerics numerics,
                                           Stream& stream);
};

// By the checkpoint's model_type. Throws Error listing the known ones.
const Architecture& find_architecture(const Checkpoint& checkpoint);

// What a checkpoint is made of, without its weights.
struct Structure {
  ModelConfig config;
  std::vector<ModuleInfo> modules;  // as resolve_modules() gives them
};
// Throws Error as find_architecture(), the architecture's read_config() and resolve_modules().
Structure read_structure(const Checkpoint& checkpoint);

}  // namespace halftone
