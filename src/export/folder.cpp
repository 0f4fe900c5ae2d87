#include <algorithm>
#include <array>

#include "base/file.h"
#include "export/gguf.h"
#include "export/layouts.h"
#include "hf/kv_cache_key.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kWhere = "export";

void check_plan(const ExportPlan& plan) {
  const Checkpoint& source = plan.source;
  require(source.quantization().layout() == Layout::kAsIs || plan.layout == Layout::kAsIs, kWhere,
          "{}: expected an unquantized checkpoint, found one that is quantized already", source.folder().string());
  require(plan.layout != Layout::kAsIs || plan.modules.empty(), kWhere,
          "expected a layout for {} quantized modules, got none", plan.modules.size());
  for (const auto& [name, module] : plan.modules) {
    require(source.contains(name + ".weight"), kWhere, "module '{}': expected in the source, found none", name);
    check_qtensor(module.weight, name);
    const Shape& shape = source.tensors().at(name + ".weight").shape;
    require(module.weight.shape == shape, kWhere, "module '{}': expected shape {}, got {}", name, to_string(shape),
            to_string(module.weight.shape));
  }
  for (const auto& [name, tensor] : plan.tensors) {
    require(source.contains(name), kWhere, "tensor '{}': expected in the source, found none", name);
    const TensorInfo& info = source.tensors().at(name);
    require(tensor.shape() == info.shape && tensor.dtype() == info.dtype, kWhere,
            "tensor '{}': expected {} {}, got {} {}", name, dtype_name(info.dtype), to_string(info.shape),
            dtype_name(tensor.dtype()), to_string(tensor.shape()));
  }
}

// "model.layers." or what stands in its place in this checkpoint.
std::string layer_prefix(const Checkpoint& source) {
  constexpr std::string_view kProjection = "0.self_attn.k_proj.weight";
  for (const auto& [name, info] : source.tensors()) {
    if (name.ends_with(kProjection)) return name.substr(0, name.size() - kProjection.size());
  }
  fail(kWhere, "{}: expected layers with self_attn.k_proj, found none", source.folder().string());
}

NamedTensors module_tensors(const ExportPlan& plan, const std::string& name, const ExportModule& module) {
  const DType dtype = plan.source.tensors().at(name + ".weight").dtype;
  NamedTensors tensors;
  switch (plan.layout) {
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
    default:
      tensors = compressed_tensors_module(name, module, dtype);
  }
  if (module.bias.defined()) tensors.emplace_back(name + ".bias", module.bias);
  return tensors;
}

std::int64_t count_layers(const Checkpoint& source) {
  return std::count_if(source.tensors().begin(), source.tensors().end(),
                       [](const auto& tensor) { return tensor.first.ends_with(".self_attn.k_proj.weight"); });
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

// Whether the layout's own keys are written for the cache.
bool writes_kv_keys(const ExportPlan& plan) {
  return plan.kv.format != "bf16" && layout_states_kv(plan.layout, plan.kv);
}

DType model_dtype(const ExportPlan& plan) {
  return plan.source.tensors().at(layer_prefix(plan.source) + "0.self_attn.k_proj.weight").dtype;
}

// The tensors of the new folder, in the order of the source; what a module turns into stands in the place of its
// weight.
std::vector<TensorToWrite> tensors_to_write(const ExportPlan& plan) {
  std::vector<TensorToWrite> result;
  for (const auto& [name, info] : plan.source.tensors()) {
    const std::size_t dot = name.rfind('.');
    const auto module = plan.modules.find(name.substr(0, dot));
    const std::string_view part = dot == std::string::npos ? "" : std::string_view(name).substr(dot);
    if (module != plan.modules.end() && part == ".weight") {
      for (auto& [n, t] : module_tensors(plan, module->first, module->second)) result.push_back(tensor_to_write(n, t));
    } else if (const auto it = plan.tensors.find(name); it != plan.tensors.end()) {
      result.push_back(tensor_to_write(name, it->second));
    } else if (module == plan.modules.end() || part != ".bias" || !module->second.bias.defined()) {
      result.push_back({name, info.dtype, info.shape, [&source = plan.source, n = name] { return source.tensor(n); }});
    }
  }
  if (writes_kv_keys(plan)) {
    const std::string prefix = layer_prefix(plan.source);
    KvQuantization kv = plan.kv;
    // a scale of 1.0 is written for each layer: transformers leaves a missing one uninitialized
    if (!kv_has_scales(kv.format)) kv.layers.assign(static_cast<std::size_t>(count_layers(plan.source)), {});
    const NamedTensors scales = plan.layout == Layout::kModelOpt ? modelopt_kv(kv, prefix)
                                                                 : compressed_tensors_kv(kv, prefix, model_dtype(plan));
    for (const auto& [n, t] : scales) result.push_back(tensor_to_write(n, t));
  }
  return result;
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
    default:
      return compressed_tensors_config(plan);
  }
}

OrderedJson new_config(const ExportPlan& plan) {
  OrderedJson config = plan.source.config();
  // a GGUF file says itself what its tensors are
  const bool quantized = plan.layout != Layout::kGguf && (!plan.modules.empty() || writes_kv_keys(plan));
  if (quantized) {
    config["quantization_config"] = quantization_config(plan);
  }
  if (plan.kv.format != "bf16" && !layout_holds_kv(plan.layout, plan.kv, model_dtype(plan))) {
    config[std::string(kKvCacheKey)] = own_kv_config(plan.kv);
  }
  if (!plan.recipe.empty()) config["halftone"] = {{"recipe", plan.recipe}};
  return config;
}

void write_json(const fs::path& path, const OrderedJson& value) { write_file_atomically(path, value.dump(2) + "\n"); }

// Files of the tokenizer, the processor, generation and remote code; weights and what is written anew are left out.
bool is_companion(const fs::path& path) {
  constexpr std::array<std::string_view, 6> kExtensions{".json", ".txt", ".model", ".jinja", ".py", ".tiktoken"};
  const std::string name = path.filename().string(), extension = path.extension().string();
  if (name == "LICENSE" || name == "NOTICE") return true;
  if (name == "config.json" || name == "hf_quant_config.json" || name == "quantization_report.json") return false;
  if (name.ends_with(".index.json")) return false;
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

}  // namespace

void copy_companions(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    if (!entry.is_regular_file() || !is_companion(entry.path())) continue;
    std::error_code error;
    fs::copy_file(entry.path(), to / entry.path().filename(), error);
    require(!error, kWhere, "{}: cannot copy: {}", entry.path().string(), error.message());
  }
}

void export_checkpoint(const ExportPlan& plan, const fs::path& folder, const ExportOptions& options,
                       const Progress& progress) {
  check_plan(plan);
  check_kv(plan);
  const bool gguf = plan.layout == Layout::kGguf;
  const std::vector<TensorToWrite> tensors = gguf ? std::vector<TensorToWrite>{} : tensors_to_write(plan);
  PendingFolder pending(folder);
  copy_companions(plan.source.folder(), pending.path());
  write_json(pending.path() / "config.json", new_config(plan));
  if (gguf) {
    write_gguf_files(plan, pending.path(), progress);
    return pending.commit(options.replace);
  }
  if (plan.layout == Layout::kModelOpt && (!plan.modules.empty() || writes_kv_keys(plan))) {
    write_json(pending.path() / "hf_quant_config.json", modelopt_hf_quant_config(plan));
  }
  write_safetensors(pending.path(), tensors, options.max_shard_bytes, progress);
  pending.commit(options.replace);
}

}  // namespace halftone
