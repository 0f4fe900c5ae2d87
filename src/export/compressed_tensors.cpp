// compressed-tensors. Sources: compressors/pack_quantized, compressors/naive_quantized and quantization/quant_config.py
// of compressed-tensors 0.20.
#include <algorithm>
#include <cctype>
#include <map>

#include "export/layouts.h"
#include "export/scales.h"
#include "hf/int_packing.h"

namespace halftone {
namespace {

std::string format_of(const ExportModule& module) {
  const QuantSpec& spec = module.weight.spec;
  if (spec.element == Element::kE4M3) return "float-quantized";
  if (spec.element == Element::kInt8 && module.input.kind != InputQuant::Kind::kNone) return "int-quantized";
  return "pack-quantized";
}

// Throws Error for what the layout cannot state.
void check_scheme(const std::string& name, const ExportModule& module) {
  const QuantSpec& spec = module.weight.spec;
  const bool integers = spec.element == Element::kInt4 || spec.element == Element::kInt8;
  const auto kind = module.input.kind;
  const bool inputs_fit = kind == InputQuant::Kind::kNone ||
                          (kind == InputQuant::Kind::kStaticInt8 && spec.element == Element::kInt8) ||
                          (kind == InputQuant::Kind::kStaticE4M3 && spec.element == Element::kE4M3);
  require((integers || spec.element == Element::kE4M3) && spec.granularity != Granularity::kNone && inputs_fit &&
              module.weight.global_scale == 1.0f,
          "export compressed-tensors",
          "module '{}': expected int4, int8 or e4m3 weights with inputs as they are or of the same type, got {}", name,
          to_string(spec));
}

OrderedJson weight_arguments(const QuantSpec& spec) {
  OrderedJson args;
  args["num_bits"] = spec.element == Element::kInt4 ? 4 : 8;
  args["type"] = spec.element == Element::kE4M3 ? "float" : "int";
  args["symmetric"] = true;
  args["group_size"] = nullptr;
  if (spec.granularity == Granularity::kGroup) args["group_size"] = spec.group;
  args["strategy"] = spec.granularity == Granularity::kGroup     ? "group"
                     : spec.granularity == Granularity::kChannel ? "channel"
                                                                 : "tensor";
  args["block_structure"] = nullptr;
  args["dynamic"] = false;
  args["actorder"] = nullptr;
  args["observer"] = "minmax";
  args["observer_kwargs"] = OrderedJson::object();
  return args;
}

OrderedJson per_tensor_arguments(const char* type) {
  OrderedJson args = weight_arguments({Element::kInt8, Granularity::kTensor, 0});
  args["type"] = type;
  return args;
}

OrderedJson input_arguments(InputQuant::Kind kind) {
  if (kind == InputQuant::Kind::kNone) return nullptr;
  return per_tensor_arguments(kind == InputQuant::Kind::kStaticInt8 ? "int" : "float");
}

// Modules of one scheme share a group.
using Groups = std::vector<std::pair<const ExportModule*, std::vector<std::string>>>;

Groups group_modules(const ExportPlan& plan) {
  Groups groups;
  for (const auto& [name, module] : plan.modules) {
    const auto same = [&m = module](const auto& group) {
      return group.first->weight.spec == m.weight.spec && group.first->input.kind == m.input.kind;
    };
    const auto it = std::find_if(groups.begin(), groups.end(), same);
    if (it == groups.end()) {
      groups.push_back({&module, {name}});
    } else {
      it->second.push_back(name);
    }
  }
  return groups;
}

// An expression for one module that holds under the names of all tools: "re:.*layers\.0\.mlp\.up_proj$".
std::string expression_for(const std::string& module) {
  std::size_t begin = module.find("layers.");
  if (begin == std::string::npos) begin = module.find("visual.");
  if (begin == std::string::npos) return module;
  std::string expression = "re:.*";
  for (const char c : module.substr(begin)) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') expression += '\\';
    expression += c;
  }
  return expression + "$";
}

std::vector<std::string> ignored(const ExportPlan& plan) {
  const bool whole_tower = !quantizes_vision(plan);
  std::vector<std::string> list;
  for (const std::string& module : unquantized_modules(plan)) {
    if (!whole_tower || !is_vision_module(module)) list.push_back(expression_for(module));
  }
  if (whole_tower) list.push_back("re:.*visual.*");
  return list;
}

}  // namespace

NamedTensors compressed_tensors_module(const std::string& name, const ExportModule& module, DType model_dtype) {
  check_scheme(name, module);
  const QTensor& q = module.weight;
  NamedTensors tensors;
  if (format_of(module) == "pack-quantized") {
    Tensor shape(DType::kI64, {2});
    std::copy(q.shape.begin(), q.shape.end(), shape.data<std::int64_t>());
    tensors.emplace_back(name + ".weight_packed", pack_int32(q.payload, q.spec.element, q.cols()));
    tensors.emplace_back(name + ".weight_shape", shape);
  } else {
    tensors.emplace_back(name + ".weight", q.payload);
  }
  Tensor scales = exact_scales(q.scales, model_dtype, name + ".weight_scale");
  if (q.spec.granularity == Granularity::kChannel) scales = scales.reshape({q.rows(), 1});
  tensors.emplace_back(name + ".weight_scale", scales);
  if (module.input.kind != InputQuant::Kind::kNone) {
    tensors.emplace_back(name + ".input_scale",
                         exact_scales(Tensor::from({module.input.scale}, {1}), model_dtype, name + ".input_scale"));
  }
  return tensors;
}

OrderedJson compressed_tensors_config(const ExportPlan& plan) {
  const Groups groups = group_modules(plan);
  OrderedJson config_groups = OrderedJson::object();
  std::string format = groups.empty() ? "dense" : format_of(*groups[0].first);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const ExportModule& module = *groups[i].first;
    if (format_of(module) != format) format = "mixed-precision";
    OrderedJson targets = {"Linear"};
    if (groups.size() > 1) {
      targets = OrderedJson::array();
      for (const std::string& name : groups[i].second) targets.push_back(expression_for(name));
    }
    config_groups[fmt::format("group_{}", i)] = {{"targets", targets},
                                                 {"weights", weight_arguments(module.weight.spec)},
                                                 {"input_activations", input_arguments(module.input.kind)},
                                                 {"output_activations", nullptr},
                                                 {"format", format_of(module)}};
  }
  OrderedJson config;
  config["quant_method"] = "compressed-tensors";
  config["format"] = format;
  config["quantization_status"] = "compressed";
  config["global_compression_ratio"] = nullptr;
  config["config_groups"] = std::move(config_groups);
  config["ignore"] = ignored(plan);
  config["kv_cache_scheme"] = nullptr;
  if (plan.kv.format != "bf16" && layout_states_kv(Layout::kCompressedTensors, plan.kv)) {
    config["kv_cache_scheme"] = per_tensor_arguments("float");
    if (plan.kv.format == "fp8_head") config["kv_cache_scheme"]["strategy"] = "attn_head";
  }
  return config;
}

NamedTensors compressed_tensors_kv(const KvQuantization& kv, const std::string& layer_prefix, DType model_dtype) {
  NamedTensors tensors;
  for (std::size_t i = 0; i < kv.layers.size(); ++i) {
    const auto add = [&](const char* name, const std::vector<float>& scales) {
      const auto heads = static_cast<std::int64_t>(scales.size());
      const Shape shape = kv.format == "fp8_head" ? Shape{heads, 1, 1} : Shape{1};
      const std::vector<float> values = scales.empty() ? std::vector<float>{1.0f} : scales;
      tensors.emplace_back(fmt::format("{}{}.self_attn.{}", layer_prefix, i, name),
                           from_f32(Tensor::from(values, shape), model_dtype));
    };
    add("k_scale", kv.layers[i].k);
    add("v_scale", kv.layers[i].v);
  }
  return tensors;
}

}  // namespace halftone
