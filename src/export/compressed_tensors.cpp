// compressed-tensors. Sources: compressors/pack_quantized, compressors/mxfp6, compressors/naive_quantized and quantization/quant_config.py
// of compressed-tensors 0.20.
#include <algorithm>
#include <map>

#include "export/layouts.h"
#include "export/scales.h"
#include "hf/int_packing.h"

namespace halftone {
namespace {

using Kind = InputQuant::Kind;

std::string format_of(const ExportModule& module) {
  const QuantSpec& spec = module.weight.spec;
  if (spec.element == Element::kE2M1) return spec.mx ? "mxfp4-pack-quantized" : "nvfp4-pack-quantized";
  if (spec.element == Element::kE2M3) return "mxfp6-pack-quantized";
  if (spec.element == Element::kE4M3) {
    if (spec.mx) return "mxfp8-quantized";
    return module.input.kind == Kind::kNone ? "naive-quantized" : "float-quantized";
  }
  if (spec.element == Element::kInt8 && module.input.kind != Kind::kNone) return "int-quantized";
  return "pack-quantized";
}

// What inputs the layout's presets have beside such weights.
bool inputs_fit(const QuantSpec& spec, Kind kind) {
  if (kind == Kind::kNone) return true;
  switch (spec.element) {
    case Element::kInt8:
      return kind == Kind::kStaticInt8 || kind == Kind::kDynamicInt8;
    case Element::kE2M1:
      return kind == (spec.mx ? Kind::kDynamicMxfp4 : Kind::kDynamicNvfp4);
    case Element::kE2M3:
      return kind == Kind::kDynamicMxfp8;
    case Element::kE4M3:
      if (spec.mx) return kind == Kind::kDynamicMxfp8;
      return kind == Kind::kStaticE4M3 || kind == Kind::kDynamicE4M3 || kind == Kind::kDynamicE4M3Group;
    default:
      return false;
  }
}

// Throws Error for what the layout cannot state.
void check_scheme(const std::string& name, const ExportModule& module) {
  const QuantSpec& spec = module.weight.spec;
  const bool known = spec.element == Element::kInt4 || spec.element == Element::kInt8 ||
                     spec.element == Element::kE4M3 || spec.element == Element::kE2M1 || spec.element == Element::kE2M3;
  const bool blocks = spec.element == Element::kE2M1 && !spec.mx;
  require(
      known && spec.granularity != Granularity::kNone && inputs_fit(spec, module.input.kind) &&
          (blocks ? spec.group == 16 && module.weight.inverse_global : module.weight.global_scale == 1.0f) &&
          !module.weight.offsets.defined(),
      "export compressed-tensors",
      "module '{}': expected int4, int8, e4m3, nvfp4, mxfp4, mxfp6 (e2m3) or mxfp8 weights with inputs as they are or "
      "of the same type, got {}",
      name, to_string(spec));
  require(!module.input_scales.defined() && !module.low_rank_a.defined(), "export compressed-tensors",
          "module '{}': expected an input without scales of its own and no low-rank part, which only ModelOpt's layout "
          "holds",
          name);
}

const char* strategy_of(const QuantSpec& spec) {
  switch (spec.granularity) {
    case Granularity::kGroup:
      return spec.element == Element::kE2M1 && !spec.mx ? "tensor_group" : "group";
    case Granularity::kChannel:
      return "channel";
    case Granularity::kTile:
      return "block";
    default:
      return "tensor";
  }
}

// The fields that the tool writes: what is null or a default of its own is left out.
OrderedJson weight_arguments(const QuantSpec& spec) {
  OrderedJson args;
  args["num_bits"] = bits_of(spec.element);
  args["type"] = spec.element == Element::kInt4 || spec.element == Element::kInt8 ? "int" : "float";
  args["symmetric"] = !spec.asymmetric;
  args["group_size"] = nullptr;
  if (spec.granularity == Granularity::kGroup) args["group_size"] = spec.group;
  args["strategy"] = strategy_of(spec);
  if (spec.granularity == Granularity::kTile) args["block_structure"] = {kTileSize, kTileSize};
  args["dynamic"] = false;
  if (spec.mx) args["scale_dtype"] = "torch.uint8";
  if (spec.element == Element::kE2M1 && !spec.mx) args["scale_dtype"] = "torch.float8_e4m3fn";
  return args;
}

// As a weight of this specification would be described, and when its scales are found.
OrderedJson input_arguments(Kind kind) {
  if (kind == Kind::kNone) return nullptr;
  constexpr QuantSpec kInt8{Element::kInt8, Granularity::kTensor}, kE4M3{Element::kE4M3, Granularity::kTensor};
  const bool integers = kind == Kind::kStaticInt8 || kind == Kind::kDynamicInt8;
  QuantSpec spec = integers ? kInt8 : kE4M3;
  if (kind == Kind::kDynamicE4M3Group) spec = {Element::kE4M3, Granularity::kGroup, 128};
  if (kind == Kind::kDynamicMxfp8) spec = {Element::kE4M3, Granularity::kGroup, 32, true};
  if (kind == Kind::kDynamicMxfp4) spec = {Element::kE2M1, Granularity::kGroup, 32, true};
  if (kind == Kind::kDynamicNvfp4) spec = {Element::kE2M1, Granularity::kGroup, 16};
  OrderedJson args = weight_arguments(spec);
  if (kind == Kind::kDynamicInt8 || kind == Kind::kDynamicE4M3) args["strategy"] = "token";
  const bool fixed = kind == Kind::kStaticInt8 || kind == Kind::kStaticE4M3;
  args["dynamic"] = !fixed;
  if (kind == Kind::kDynamicNvfp4) args["dynamic"] = "local";
  if (has_static_scale(kind)) args["observer"] = "static_minmax";
  return args;
}

OrderedJson per_tensor_arguments() { return input_arguments(Kind::kStaticE4M3); }

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
  return "re:.*" + escape_expression(std::string_view(module).substr(begin)) + "$";
}

// vLLM and SGLang take a head for quantized when a target names it; to them it is not of the class Linear.
std::string target_for(const std::string& module) { return is_head(module) ? "re:.*lm_head$" : expression_for(module); }

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

namespace {

// F8_E4M3 and E8M0 scales as they are, the latter under the tool's dtype for them; others in the model's dtype.
Tensor stored_scales(const std::string& name, const QTensor& q, DType model_dtype) {
  if (q.spec.mx) {
    return Tensor::borrow(DType::kU8, q.scales.shape(), q.scales.raw(), std::make_shared<Tensor>(q.scales));
  }
  if (q.scales.dtype() == DType::kF8E4M3) return q.scales;
  const Tensor scales = exact_scales(q.scales, model_dtype, name + ".weight_scale");
  return q.spec.granularity == Granularity::kChannel ? scales.reshape({q.rows(), 1}) : scales;
}

// Zero points: packed as the codes are, else I8 in the scales' shape.
Tensor stored_zeros(const QTensor& q, bool packed) {
  const Tensor zeros = q.zeros.rank() == 2 ? q.zeros : q.zeros.reshape({q.rows(), 1});
  return packed ? pack_int32_rows(zeros, q.spec.element) : zeros;
}

void add_weight(const std::string& name, const ExportModule& module, NamedTensors& tensors) {
  const QTensor& q = module.weight;
  if (format_of(module) == "pack-quantized") {
    Tensor shape(DType::kI64, {2});
    std::copy(q.shape.begin(), q.shape.end(), shape.data<std::int64_t>());
    tensors.emplace_back(name + ".weight_packed", pack_int32(q.payload, q.spec.element, q.cols()));
    tensors.emplace_back(name + ".weight_shape", shape);
  } else if (q.spec.element == Element::kE2M3) {
    tensors.emplace_back(name + ".weight_packed", pack_six_bits(q.payload));
  } else {
    tensors.emplace_back(name + (q.spec.element == Element::kE2M1 ? ".weight_packed" : ".weight"), q.payload);
  }
}

Tensor one_number(float value) { return Tensor::from({value}, {1}); }

}  // namespace

NamedTensors compressed_tensors_module(const std::string& name, const ExportModule& module, DType model_dtype) {
  check_scheme(name, module);
  const QTensor& q = module.weight;
  NamedTensors tensors;
  add_weight(name, module, tensors);
  tensors.emplace_back(name + ".weight_scale", stored_scales(name, q, model_dtype));
  if (q.zeros.defined()) {
    tensors.emplace_back(name + ".weight_zero_point", stored_zeros(q, format_of(module) == "pack-quantized"));
  }
  if (q.spec.element == Element::kE2M1 && !q.spec.mx) {
    tensors.emplace_back(name + ".weight_global_scale", one_number(q.global_scale));
  }
  if (module.input.kind == Kind::kDynamicNvfp4) {
    tensors.emplace_back(name + ".input_global_scale", one_number(module.input.scale));
  } else if (has_static_scale(module.input.kind)) {
    const std::string scale = name + ".input_scale";
    tensors.emplace_back(scale, exact_scales(one_number(module.input.scale), model_dtype, scale));
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
    OrderedJson targets = OrderedJson::array();
    for (const std::string& name : groups[i].second) {
      if (groups.size() > 1 || is_head(name)) targets.push_back(target_for(name));
    }
    if (groups.size() == 1) targets.push_back("Linear");  // last: the tool stops at the first that matches
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
    config["kv_cache_scheme"] = per_tensor_arguments();
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
