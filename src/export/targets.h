#pragma once
// What the loaders of other engines refuse in a folder, known before it is written. Sources: vLLM modelopt.py,
// compressed_tensors, awq.py, gptq.py, qwen2_vl.py; SGLang modelopt_quant.py; TensorRT-LLM _torch/model_config.py and
// linear.py; transformers quantizers and integrations/ggml.py; llama.cpp.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hf/layout.h"
#include "tensor/qtensor.h"

namespace halftone {

enum class Target : std::uint8_t { kVllm, kSglang, kTrtLlm, kTransformers, kLlamaCpp };

// "vllm", "sglang", "trtllm", "transformers", "llama.cpp".
const std::vector<std::string>& target_names();
// Throws Error listing the names.
Target target_from_name(std::string_view name);

// One linear layer of the folder to come.
struct TargetModule {
  std::string name;  // as the checkpoint names it
  Shape shape;
  QuantSpec weights;  // kNone: as it is
  InputQuant::Kind inputs = InputQuant::Kind::kNone;
};

struct TargetFolder {
  Layout layout = Layout::kAsIs;
  std::vector<TargetModule> modules;  // all linear layers, in the order of the model
  std::string kv_format = "bf16";
};

struct TargetFinding {
  std::string rule;     // "the layout has a loader"
  std::string reason;   // "vLLM reads GGUF files of language models only", naming the module where there is one
  bool refused = true;  // false: loaded, but not as written
};

// Every rule of the target's table that the folder breaks, the first module of each.
std::vector<TargetFinding> check_target(Target target, const TargetFolder& folder);

}  // namespace halftone
