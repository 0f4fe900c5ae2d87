#pragma once
// The tensors that an architecture consists of: canonical names, shapes and the class that recipes speak of.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hf/checkpoint.h"
#include "model/config.h"

namespace halftone {

// What a recipe's defaults look at.
enum class RuleClass : std::uint8_t { kAttention, kMlp, kNorm, kEmbedding, kHead, kVision, kProjector };
// "attention", "mlp", ...
std::string_view to_string(RuleClass rule_class);

// One module with a weight and perhaps a bias.
struct ModuleInfo {
  std::string module;  // canonical: "model.layers.0.self_attn.q_proj", "visual.blocks.0.attn.qkv", "lm_head"
  std::string stored;  // the module's name in the checkpoint ("model.language_model.layers.0.self_attn.q_proj")
  RuleClass rule_class = RuleClass::kAttention;
  std::int64_t layer = -1;  // of the decoder or the vision tower, -1 outside
  Shape shape;              // of the weight; linear: [outputs, inputs]
  bool has_bias = false;
  bool linear = false;  // a product that runs through Linear; its weight may be quantized
  bool tied = false;    // the head of a checkpoint that stores the embedding table only
};

// The modules of the checkpoint in the order of the forward pass, each found under its old or re-saved name, every
// shape of an unquantized tensor checked. Throws Error naming file, tensor, what was expected and what was found.
std::vector<ModuleInfo> resolve_modules(std::vector<ModuleInfo> table, const Checkpoint& checkpoint);

// The checkpoint with the head as a module of its own (Checkpoint::untied()), under the names that its other modules go
// by. `modules` are the checkpoint's, as resolve_modules() gives them.
Checkpoint untie_head(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules);

}  // namespace halftone
