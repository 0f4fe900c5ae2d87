#include "export/plan.h"

#include <algorithm>

#include "base/file.h"
#include "export/gguf.h"
#include "hf/kv_cache_key.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "export";

// "model.layers." or what stands in its place in this checkpoint.
std::string layer_prefix(const Checkpoint& source) {
  constexpr std::string_view kProjection = "0.self_attn.k_proj.weight";
  for (const auto& [name, info] : source.tensors()) {
    if (name.ends_with(kProjection)) return name.substr(0, name.size() - kProjection.size());
  }
  fail(kWhere, "{}: expected layers with self_attn.k_proj, found none", source.folder().string());
}

std::int64_t count_layers(const Checkpoint& source) {
  return std::count_if(source.tensors().begin(), source.tensors().end(),
                       [](const auto& tensor) { return tensor.first.ends_with(".self_attn.k_proj.weight"); });
}

// Whether the layout's own keys are written for the cache.
bool writes_kv_keys(const ExportPlan& plan) {
  return plan.kv.format != "bf16" && layout_states_kv(plan.layout, plan.kv);
}

DType model_dtype(const ExportPlan& plan) {
  return plan.source.tensors().at(layer_prefix(plan.source) + "0.self_attn.k_proj.weight").dtype;
}

OrderedJson quantization_config(const ExportPlan& plan) {
  switch (plan.layout) {
    case Layout::kModelOpt:
      return modelopt_config(plan);
    case Layout::kAwq:
      return awq_config(plan);
    case Layout::kGptq:
    case Layout::kGptqV2:
      return gptq_config(plan);
    case Layout::kBitsandbytes:
      return bitsandbytes_config(plan);
    default:
      return compressed_tensors_config(plan);
  }
}

OrderedJson new_config(const ExportPlan& plan) {
  OrderedJson config = plan.source.config();
  config.erase(std::string(kKvCacheKey));  // of the source's cache
  // a GGUF file says itself what its tensors are
  const bool quantized = plan.layout != Layout::kGguf && (!plan.modules.empty() || writes_kv_keys(plan));
  if (quantized) config["quantization_config"] = quantization_config(plan);
  if (plan.kv.format != "bf16" && !layout_holds_kv(plan.layout, plan.kv, model_dtype(plan))) {
    config[std::string(kKvCacheKey)] = own_kv_config(plan.kv);
  }
  if (!plan.recipe.empty()) config["halftone"] = {{"recipe", plan.recipe}};
  return config;
}

void write_json(const std::filesystem::path& path, const OrderedJson& value) {
  write_file_atomically(path, value.dump(2) + "\n");
}

// Pieces of the blocks and the bias.
NamedTensors block_tensors(const ExportPlan& plan, const std::string& name, const ExportModule& module) {
  NamedTensors tensors;
  const auto add = [&](const std::string& tensor, const Tensor& value) {
    for (const GgufPiece& piece : gguf_pieces(plan, tensor)) {
      tensors.emplace_back(piece.slot.name, piece.cut(value));
    }
  };
  add(name + ".weight", module.blocks);
  if (module.bias.defined()) add(name + ".bias", module.bias);
  return tensors;
}

}  // namespace

void check_plan(const ExportPlan& plan) {
  const Checkpoint& source = plan.source;
  require(source.quantization().layout() == Layout::kAsIs || plan.layout == Layout::kAsIs, kWhere,
          "{}: expected an unquantized checkpoint, found one that is quantized already", source.folder().string());
  require(plan.layout != Layout::kAsIs || plan.modules.empty(), kWhere,
          "expected a layout for {} quantized modules, got none", plan.modules.size());
  for (const auto& [name, module] : plan.modules) check_module(plan, name, module);
}

void check_module(const ExportPlan& plan, const std::string& name, const ExportModule& module) {
  require(plan.source.contains(name + ".weight"), kWhere, "module '{}': expected in the source, found none", name);
  check_qtensor(module.weight, name);
  const Shape& shape = plan.source.tensors().at(name + ".weight").shape;
  require(module.weight.shape == shape, kWhere, "module '{}': expected shape {}, got {}", name, to_string(shape),
          to_string(module.weight.shape));
}

void check_tensors(const ExportPlan& plan) {
  for (const auto& [name, tensor] : plan.tensors) {
    require(plan.source.contains(name), kWhere, "tensor '{}': expected in the source, found none", name);
    const TensorInfo& info = plan.source.tensors().at(name);
    require(tensor.shape() == info.shape && tensor.dtype() == info.dtype, kWhere,
            "tensor '{}': expected {} {}, got {} {}", name, dtype_name(info.dtype), to_string(info.shape),
            dtype_name(tensor.dtype()), to_string(tensor.shape()));
  }
}

void check_kv(const ExportPlan& plan) {
  require(is_kv_format(plan.kv.format), kWhere, "expected a KV format, got '{}'", plan.kv.format);
  if (!kv_has_scales(plan.kv.format)) return;
  const std::int64_t layers = count_layers(plan.source);
  require(std::ssize(plan.kv.layers) == layers, kWhere, "KV format {}: expected scales of {} layers, got {}",
          plan.kv.format, layers, plan.kv.layers.size());
  for (const KvScales& scales : plan.kv.layers) {
    require(!scales.k.empty() && !scales.v.empty(), kWhere,
            "KV format {}: expected scales of keys and values, got none", plan.kv.format);
  }
}

NamedTensors module_tensors(const ExportPlan& plan, const std::string& name, const ExportModule& module) {
  const DType dtype = plan.source.tensors().at(name + ".weight").dtype;
  NamedTensors tensors;
  switch (plan.layout) {
    case Layout::kGguf:
      return block_tensors(plan, name, module);
    case Layout::kModelOpt:
      tensors = modelopt_module(name, module, dtype);
      break;
    case Layout::kAwq:
      tensors = awq_module(name, module);
      break;
    case Layout::kGptq:
    case Layout::kGptqV2:
      tensors = gptq_module(name, module, plan.layout);
      break;
    case Layout::kBitsandbytes:
      tensors = bitsandbytes_module(name, module, dtype);
      break;
    default:
      tensors = compressed_tensors_module(name, module, dtype);
  }
  if (module.bias.defined()) tensors.emplace_back(name + ".bias", module.bias);
  return tensors;
}

NamedTensors kv_tensors(const ExportPlan& plan) {
  if (!writes_kv_keys(plan)) return {};
  const std::string prefix = layer_prefix(plan.source);
  KvQuantization kv = plan.kv;
  // a scale of 1.0 is written for each layer: transformers leaves a missing one uninitialized
  if (!kv_has_scales(kv.format)) kv.layers.assign(static_cast<std::size_t>(count_layers(plan.source)), {});
  return plan.layout == Layout::kModelOpt ? modelopt_kv(kv, prefix)
                                          : compressed_tensors_kv(kv, prefix, model_dtype(plan));
}

void write_configuration(const ExportPlan& plan, const std::filesystem::path& folder) {
  write_json(folder / "config.json", new_config(plan));
  if (plan.layout == Layout::kModelOpt && (!plan.modules.empty() || writes_kv_keys(plan))) {
    write_json(folder / "hf_quant_config.json", modelopt_hf_quant_config(plan));
  }
}

}  // namespace halftone
