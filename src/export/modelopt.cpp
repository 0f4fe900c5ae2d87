// ModelOpt's unified Hugging Face layout. Sources: modelopt/torch/export/unified_export_hf.py, quant_utils.py and
// convert_hf_config.py of ModelOpt 0.47.
#include <algorithm>

#include "export/layouts.h"
#include "export/scales.h"

namespace halftone {
namespace {

struct Row {
  std::string_view algorithm;
  QuantSpec weights;
  InputQuant::Kind input;
};

constexpr Row kRows[] = {
    {"FP8", {Element::kE4M3, Granularity::kTensor, 0}, InputQuant::Kind::kStaticE4M3},
    {"NVFP4", {Element::kE2M1, Granularity::kGroup, 16}, InputQuant::Kind::kDynamicNvfp4},
    {"W4A16_NVFP4", {Element::kE2M1, Granularity::kGroup, 16}, InputQuant::Kind::kNone},
    {"W4A8_NVFP4_FP8", {Element::kE2M1, Granularity::kGroup, 32}, InputQuant::Kind::kStaticE4M3},
};

const Row& row_of(const std::string& name, const ExportModule& module) {
  for (const Row& row : kRows) {
    if (row.weights == module.weight.spec && row.input == module.input.kind) return row;
  }
  fail("export modelopt",
       "module '{}': expected FP8, NVFP4, W4A16_NVFP4 or W4A8_NVFP4_FP8, got weights {} with inputs of kind {}", name,
       to_string(module.weight.spec), static_cast<int>(module.input.kind));
}

Tensor scalar(float value, const std::string& name) {
  return exact_scales(Tensor::from({value}, {1}), DType::kF32, name).reshape({});
}

// Modules that stay as they are; a whole vision tower as one glob under both of its names.
std::vector<std::string> excluded(const ExportPlan& plan) {
  const bool whole_tower = !quantizes_vision(plan);
  std::vector<std::string> list;
  for (const std::string& module : unquantized_modules(plan)) {
    if (!whole_tower || !is_vision_module(module)) list.push_back(module);
  }
  if (whole_tower) {
    list.push_back("visual*");
    list.push_back("model.visual*");
  }
  return list;
}

// quant_algo and, for block formats, group_size.
OrderedJson algorithm_fields(const Row& row) {
  OrderedJson fields{{"quant_algo", row.algorithm}};
  if (row.weights.group > 0) fields["group_size"] = row.weights.group;
  return fields;
}

// The fields that both files share: one algorithm, or one for each module.
OrderedJson algorithms(const ExportPlan& plan) {
  if (plan.modules.empty()) return {{"quant_algo", nullptr}};
  const Row& first = row_of(plan.modules.begin()->first, plan.modules.begin()->second);
  const bool mixed = std::any_of(plan.modules.begin(), plan.modules.end(),
                                 [&](const auto& m) { return &row_of(m.first, m.second) != &first; });
  if (!mixed) return algorithm_fields(first);
  OrderedJson layers = OrderedJson::object();
  for (const auto& [name, module] : plan.modules) layers[name] = algorithm_fields(row_of(name, module));
  return {{"quant_algo", "MIXED_PRECISION"}, {"quantized_layers", std::move(layers)}};
}

OrderedJson arguments(int bits, std::int64_t group) {
  OrderedJson args{{"dynamic", false}, {"num_bits", bits}, {"type", "float"}};
  if (group > 0) args["group_size"] = group;
  return args;
}

OrderedJson config_group(const Row& row) {
  OrderedJson group;
  if (row.input == InputQuant::Kind::kStaticE4M3) group["input_activations"] = arguments(8, 0);
  if (row.input == InputQuant::Kind::kDynamicNvfp4) group["input_activations"] = arguments(4, row.weights.group);
  group["weights"] = arguments(row.weights.element == Element::kE4M3 ? 8 : 4, row.weights.group);
  group["targets"] = {"Linear"};
  return group;
}

bool states_kv(const ExportPlan& plan) {
  return plan.kv.format != "bf16" && layout_states_kv(Layout::kModelOpt, plan.kv);
}

// vLLM reads this layout only from the producer "modelopt"; the version is that of the layout.
OrderedJson producer() { return {{"name", "modelopt"}, {"version", "0.47.0"}, {"written_by", "halftone"}}; }

}  // namespace

NamedTensors modelopt_module(const std::string& name, const ExportModule& module) {
  const Row& row = row_of(name, module);
  const QTensor& q = module.weight;
  NamedTensors tensors{{name + ".weight", q.payload}};
  if (row.weights.element == Element::kE4M3) {
    require(q.global_scale == 1.0f, "export modelopt", "module '{}': expected no global scale for FP8, got {}", name,
            q.global_scale);
    tensors.emplace_back(name + ".weight_scale",
                         exact_scales(q.scales, DType::kF32, name + ".weight_scale").reshape({}));
  } else {
    require(q.cols() % row.weights.group == 0, "export modelopt",
            "module '{}': expected inputs in whole blocks of {}, got {}", name, row.weights.group, q.cols());
    require(q.scales.dtype() == DType::kF8E4M3, "export modelopt",
            "module '{}': expected block scales of F8_E4M3, got {}", name, dtype_name(q.scales.dtype()));
    tensors.emplace_back(name + ".weight_scale", q.scales);
    tensors.emplace_back(name + ".weight_scale_2", scalar(q.global_scale, name + ".weight_scale_2"));
  }
  if (row.input != InputQuant::Kind::kNone) {
    tensors.emplace_back(name + ".input_scale", scalar(module.input.scale, name + ".input_scale"));
  }
  return tensors;
}

OrderedJson modelopt_config(const ExportPlan& plan) {
  OrderedJson config = algorithms(plan);
  config["config_groups"] = OrderedJson::object();
  if (!plan.modules.empty() && config["quant_algo"] != "MIXED_PRECISION") {
    config["config_groups"]["group_0"] =
        config_group(row_of(plan.modules.begin()->first, plan.modules.begin()->second));
  }
  config["ignore"] = excluded(plan);
  if (states_kv(plan)) config["kv_cache_scheme"] = arguments(8, 0);
  config["producer"] = producer();
  config["quant_method"] = "modelopt";
  return config;
}

OrderedJson modelopt_hf_quant_config(const ExportPlan& plan) {
  OrderedJson quantization = algorithms(plan);
  quantization["kv_cache_quant_algo"] = nullptr;
  if (states_kv(plan)) quantization["kv_cache_quant_algo"] = "FP8";
  if (quantization["quant_algo"] != "MIXED_PRECISION") quantization["exclude_modules"] = excluded(plan);
  return {{"producer", producer()}, {"quantization", std::move(quantization)}};
}

NamedTensors modelopt_kv(const KvQuantization& kv, const std::string& layer_prefix) {
  NamedTensors tensors;
  if (kv.format != "fp8_calibrated") return tensors;  // fp8: no scales mean 1.0
  for (std::size_t i = 0; i < kv.layers.size(); ++i) {
    const std::string attention = fmt::format("{}{}.self_attn.", layer_prefix, i);
    tensors.emplace_back(attention + "k_proj.k_scale", scalar(kv.layers[i].k.at(0), attention + "k_proj.k_scale"));
    tensors.emplace_back(attention + "v_proj.v_scale", scalar(kv.layers[i].v.at(0), attention + "v_proj.v_scale"));
  }
  return tensors;
}

}  // namespace halftone
