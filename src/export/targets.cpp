#include "export/targets.h"

#include <algorithm>
#include <array>
#include <map>

#include "export/layouts.h"
#include "hf/kv_cache_key.h"

namespace halftone {
namespace {

using Kind = InputQuant::Kind;
using Reason = std::optional<std::string>;

constexpr std::array<std::string_view, 5> kNames{"vllm", "sglang", "trtllm", "transformers", "llama.cpp"};
constexpr std::array<std::string_view, 5> kTitles{"vLLM", "SGLang", "TensorRT-LLM", "transformers", "llama.cpp"};

bool quantized(const TargetModule& module) { return module.weights.granularity != Granularity::kNone; }

// A rule on one quantized module, for all of them.
template <typename Test>
Reason first_that(const TargetFolder& folder, Test breaks, std::string_view why) {
  for (const TargetModule& module : folder.modules) {
    if (quantized(module) && breaks(module))
      return fmt::format("{}: {}: {}", module.name, to_string(module.weights), why);
  }
  return std::nullopt;
}

Reason layout_is(const TargetFolder& folder, Layout layout, std::string_view why) {
  return folder.layout == layout ? Reason(std::string(why)) : std::nullopt;
}

// --- what a layout's loader knows ---

bool is_fp8(const TargetModule& m, Granularity granularity) {
  return m.weights.element == Element::kE4M3 && !m.weights.mx && m.weights.granularity == granularity;
}
bool is_nvfp4(const TargetModule& m) {
  return m.weights.element == Element::kE2M1 && !m.weights.mx && m.weights.group == 16;
}
bool is_mx(const TargetModule& m, Element element) { return m.weights.mx && m.weights.element == element; }

Reason vllm_modelopt(const TargetFolder& folder) {
  if (folder.layout != Layout::kModelOpt) return std::nullopt;
  return first_that(
      folder,
      [](const TargetModule& m) {
        return !is_nvfp4(m) && !is_mx(m, Element::kE4M3) && (m.weights.element != Element::kE4M3 || m.weights.mx);
      },
      "vLLM reads FP8, NVFP4 and MXFP8 of ModelOpt's layout; for integers write compressed-tensors, awq or gptq");
}

Reason sglang_modelopt(const TargetFolder& folder) {
  if (folder.layout != Layout::kModelOpt) return std::nullopt;
  return first_that(
      folder,
      [](const TargetModule& m) {
        const bool nvfp4 = is_nvfp4(m) && m.inputs == Kind::kDynamicNvfp4;
        return !nvfp4 && !is_fp8(m, Granularity::kTensor);
      },
      "SGLang reads FP8 per tensor and NVFP4 of ModelOpt's layout");
}

Reason trtllm_modelopt(const TargetFolder& folder) {
  if (folder.layout != Layout::kModelOpt) return std::nullopt;
  return first_that(
      folder, [](const TargetModule& m) { return m.weights.element == Element::kInt8 || is_mx(m, Element::kE4M3); },
      "TensorRT-LLM's PyTorch backend has no W8A16, no W8A8_SQ and no MXFP8");
}

Reason trtllm_compressed_tensors(const TargetFolder& folder) {
  if (folder.layout != Layout::kCompressedTensors) return std::nullopt;
  return first_that(
      folder,
      [](const TargetModule& m) {
        const bool fp8 = is_fp8(m, Granularity::kChannel) || is_fp8(m, Granularity::kTile);
        return !fp8 && !is_nvfp4(m) && !is_mx(m, Element::kE2M1);
      },
      "TensorRT-LLM reads FP8 by channel and by tile, NVFP4 and MXFP4 of compressed-tensors");
}

Reason vllm_gguf(const TargetFolder& f) {
  return layout_is(f, Layout::kGguf, "vLLM reads GGUF files of language models, not of Qwen2-VL");
}
Reason sglang_gguf(const TargetFolder& f) {
  return layout_is(f, Layout::kGguf, "SGLang reads GGUF files of language models, not of Qwen2-VL");
}
Reason vllm_bitsandbytes(const TargetFolder& f) {
  return layout_is(f, Layout::kBitsandbytes,
                   "vLLM runs stored bitsandbytes weights without tensor parallelism, in pipelines only");
}
Reason sglang_bitsandbytes(const TargetFolder& f) {
  return layout_is(f, Layout::kBitsandbytes, "SGLang reads it when told so (--load-format bitsandbytes)");
}
Reason transformers_needs_bitsandbytes(const TargetFolder& f) {
  return layout_is(f, Layout::kBitsandbytes, "transformers runs this layout through the package bitsandbytes");
}
Reason trtllm_other(const TargetFolder& f) {
  const bool known =
      f.layout == Layout::kModelOpt || f.layout == Layout::kCompressedTensors || f.layout == Layout::kAsIs;
  return known ? std::nullopt : Reason("TensorRT-LLM's PyTorch backend reads modelopt and compressed-tensors");
}
Reason transformers_other(const TargetFolder& f) {
  const Reason modelopt = layout_is(f, Layout::kModelOpt, "transformers has no loader for ModelOpt's layout");
  return modelopt ? modelopt : layout_is(f, Layout::kGguf, "transformers reads no GGUF files of Qwen2-VL");
}
Reason llama_cpp_other(const TargetFolder& f) {
  return f.layout == Layout::kGguf ? std::nullopt : Reason("llama.cpp reads GGUF alone (--layout gguf)");
}
Reason transformers_needs_gptqmodel(const TargetFolder& f) {
  const bool words = f.layout == Layout::kAwq || f.layout == Layout::kGptq || f.layout == Layout::kGptqV2;
  return words ? Reason("transformers runs these layouts through the package gptqmodel") : std::nullopt;
}

// --- rules on groups of modules ---

// q/k/v and gate/up become one product when the model is loaded.
Reason fused_alike(const TargetFolder& folder) {
  constexpr std::array<std::array<std::string_view, 3>, 2> kFused{
      {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, {"mlp.gate_proj", "mlp.up_proj", ""}}};
  std::map<std::string, const TargetModule*> first;  // by what stands before the last part, and the fused product
  for (const TargetModule& module : folder.modules) {
    for (std::size_t k = 0; k < kFused.size(); ++k) {
      for (const std::string_view part : kFused[k]) {
        if (part.empty() || !module.name.ends_with(part)) continue;
        const std::string key =
            fmt::format("{} {}", module.name.substr(0, module.name.size() - part.size()), static_cast<int>(k));
        const TargetModule* other = first.try_emplace(key, &module).first->second;
        if (other->weights != module.weights || other->inputs != module.inputs) {
          return fmt::format("{} is {}, {} is {}: matrices that run as one product must have one format", other->name,
                             to_string(other->weights), module.name, to_string(module.weights));
        }
      }
    }
  }
  return std::nullopt;
}

Reason vision_as_it_is(const TargetFolder& folder) {
  if (folder.layout == Layout::kCompressedTensors) return std::nullopt;
  return first_that(
      folder, [](const TargetModule& m) { return is_vision_module(m.name); },
      "the vision tower is loaded unquantized whatever the folder says");
}

Reason bitsandbytes_head(const TargetFolder& folder) {
  if (folder.layout != Layout::kBitsandbytes) return std::nullopt;
  return first_that(
      folder, [](const TargetModule& m) { return is_head(m.name); }, "the head is taken for unquantized");
}

Reason tiled_head(const TargetFolder& folder) {
  return first_that(
      folder, [](const TargetModule& m) { return is_head(m.name) && m.weights.granularity == Granularity::kTile; },
      "SGLang refuses a head with scales by tile");
}

Reason whole_tiles(const TargetFolder& folder) {
  return first_that(
      folder,
      [](const TargetModule& m) {
        return m.weights.granularity == Granularity::kTile &&
               (m.shape[0] % kTileSize != 0 || m.shape[1] % kTileSize != 0);
      },
      "rows and columns must be multiples of 128");
}

Reason whole_blocks(const TargetFolder& folder) {
  return first_that(
      folder,
      [](const TargetModule& m) {
        return m.weights.granularity == Granularity::kGroup && m.shape[1] % m.weights.group != 0;
      },
      "inputs must be whole groups");
}

// Marlin, the kernel behind 4-bit integers.
Reason marlin_shape(const TargetFolder& folder) {
  return first_that(
      folder,
      [](const TargetModule& m) {
        return m.weights.element == Element::kInt4 && (m.shape[0] % 64 != 0 || m.shape[1] % 128 != 0);
      },
      "kernels for INT4 need outputs in multiples of 64 and inputs in multiples of 128; slower ones may run it");
}

Reason marlin_groups(const TargetFolder& folder) {
  return first_that(
      folder,
      [](const TargetModule& m) {
        const std::int64_t group = m.weights.group;
        return m.weights.element == Element::kInt4 && m.weights.granularity == Granularity::kGroup && group != 32 &&
               group != 64 && group != 128;
      },
      "groups must be of 32, 64 or 128 inputs");
}

// --- the cache ---

Reason kv_is_ours(const TargetFolder& folder) {
  const bool states = folder.layout == Layout::kModelOpt || folder.layout == Layout::kCompressedTensors;
  if (folder.kv_format == "bf16") return std::nullopt;
  if (folder.kv_format == "fp8_debiased" || kv_is_int8(folder.kv_format) ||
      (folder.kv_format == "fp8_head" && folder.layout == Layout::kModelOpt) || !states) {
    return fmt::format("{} is written for Halftone alone: the cache runs in the loader's own format", folder.kv_format);
  }
  return std::nullopt;
}

struct RuleRow {
  Target target;
  std::string_view rule;
  Reason (*broken)(const TargetFolder&);
  bool refused;
};

constexpr RuleRow kRules[] = {
    {Target::kVllm, "layout", vllm_gguf, true},
    {Target::kVllm, "ModelOpt algorithms", vllm_modelopt, true},
    {Target::kVllm, "fused matrices", fused_alike, true},
    {Target::kVllm, "vision tower", vision_as_it_is, true},
    {Target::kVllm, "head", bitsandbytes_head, true},
    {Target::kVllm, "whole tiles", whole_tiles, true},
    {Target::kVllm, "whole groups", whole_blocks, true},
    {Target::kVllm, "INT4 groups", marlin_groups, true},
    {Target::kVllm, "INT4 shapes", marlin_shape, false},
    {Target::kVllm, "parallelism", vllm_bitsandbytes, false},
    {Target::kVllm, "KV cache", kv_is_ours, false},
    {Target::kSglang, "layout", sglang_gguf, true},
    {Target::kSglang, "ModelOpt algorithms", sglang_modelopt, true},
    {Target::kSglang, "fused matrices", fused_alike, true},
    {Target::kSglang, "vision tower", vision_as_it_is, true},
    {Target::kSglang, "head", bitsandbytes_head, true},
    {Target::kSglang, "head", tiled_head, true},
    {Target::kSglang, "whole tiles", whole_tiles, true},
    {Target::kSglang, "whole groups", whole_blocks, true},
    {Target::kSglang, "loading", sglang_bitsandbytes, false},
    {Target::kSglang, "KV cache", kv_is_ours, false},
    {Target::kTrtLlm, "layout", trtllm_other, true},
    {Target::kTrtLlm, "ModelOpt algorithms", trtllm_modelopt, true},
    {Target::kTrtLlm, "compressed-tensors formats", trtllm_compressed_tensors, true},
    {Target::kTrtLlm, "fused matrices", fused_alike, true},
    {Target::kTrtLlm, "whole tiles", whole_tiles, true},
    {Target::kTrtLlm, "whole groups", whole_blocks, true},
    {Target::kTrtLlm, "KV cache", kv_is_ours, false},
    {Target::kTransformers, "layout", transformers_other, true},
    {Target::kTransformers, "packages", transformers_needs_gptqmodel, false},
    {Target::kTransformers, "packages", transformers_needs_bitsandbytes, false},
    {Target::kTransformers, "KV cache", kv_is_ours, false},
    {Target::kLlamaCpp, "layout", llama_cpp_other, true},
    {Target::kLlamaCpp, "whole groups", whole_blocks, true},
    {Target::kLlamaCpp, "KV cache", kv_is_ours, false},
};

}  // namespace

const std::vector<std::string>& target_names() {
  static const std::vector<std::string> names(kNames.begin(), kNames.end());
  return names;
}

Target target_from_name(std::string_view name) {
  const auto it = std::find(kNames.begin(), kNames.end(), name);
  require(it != kNames.end(), "target", "expected {}, found '{}'", fmt::join(kNames, ", "), name);
  return static_cast<Target>(it - kNames.begin());
}

std::vector<TargetFinding> check_target(Target target, const TargetFolder& folder) {
  std::vector<TargetFinding> findings;
  for (const RuleRow& row : kRules) {
    if (row.target != target) continue;
    if (const Reason reason = row.broken(folder)) {
      const std::string_view title = kTitles[static_cast<std::size_t>(target)];
      findings.push_back({fmt::format("{}, {}", title, row.rule), *reason, row.refused});
    }
  }
  return findings;
}

}  // namespace halftone
