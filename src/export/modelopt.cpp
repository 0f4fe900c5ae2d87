// ModelOpt's unified Hugging Face layout. Sources: modelopt/torch/export/unified_export_hf.py, quant_utils.py and
// convert_hf_config.py of ModelOpt 0.47.
#include <algorithm>
#include <set>

#include "export/layouts.h"
#include "export/scales.h"
#include "hf/int_packing.h"
#include "hf/modelopt_algorithms.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "export modelopt";

// NVFP4 has another name when its inputs were scaled, wherever the scales are kept; with a low-rank part a third. INT8
// has one for both.
bool fits(const ModelOptAlgorithm& row, const ExportModule& module) {
  const LinearScheme& scheme = row.scheme;
  QuantSpec spec = module.weight.spec;
  if (scheme.storage == Storage::kRowPairs && spec.granularity == Granularity::kGroup)
    spec.group = scheme.weights.group;
  const bool one_name = scheme.storage == Storage::kRowPairs || scheme.input == InputQuant::Kind::kStaticInt8;
  const bool scaled = one_name || scheme.input_scales == module.prescaled;
  return scheme.weights == spec && scheme.input == module.input.kind && scaled &&
         scheme.low_rank == module.low_rank_a.defined();
}

const ModelOptAlgorithm& row_of(const std::string& name, const ExportModule& module) {
  for (const ModelOptAlgorithm& row : modelopt_algorithms()) {
    if (fits(row, module)) return row;
  }
  fail(kWhere, "module '{}': expected the weights and inputs of one of {}, got weights {} with inputs of kind {}", name,
       modelopt_algorithm_names(), to_string(module.weight.spec), static_cast<int>(module.input.kind));
}

Tensor scalar(float value, const std::string& name) {
  return exact_scales(Tensor::from({value}, {1}), DType::kF32, name).reshape({});
}

// E8M0 codes under the dtype that ModelOpt gives them.
Tensor as_bytes(const Tensor& codes) {
  return Tensor::borrow(DType::kU8, codes.shape(), codes.raw(), std::make_shared<Tensor>(codes));
}

// The payload and its scales.
NamedTensors weight_tensors(const std::string& name, const ModelOptAlgorithm& row, const QTensor& q) {
  const Storage storage = row.scheme.storage;
  NamedTensors tensors;
  require(storage != Storage::kRowPairs || q.rows() % 2 == 0, kWhere,
          "module '{}': expected an even number of outputs for INT4, got {}", name, q.rows());
  const bool pairs = storage == Storage::kRowPairs;
  tensors.emplace_back(name + ".weight", pairs ? pack_row_pairs(q.payload, q.rows(), q.cols()) : q.payload);
  const std::string scale = name + ".weight_scale";
  if (q.spec.mx) {
    tensors.emplace_back(scale, as_bytes(q.scales));
  } else if (storage == Storage::kBlocks) {
    require(q.scales.dtype() == DType::kF8E4M3, kWhere, "module '{}': expected block scales of F8_E4M3, got {}", name,
            dtype_name(q.scales.dtype()));
    tensors.emplace_back(scale, q.scales);
    tensors.emplace_back(name + ".weight_scale_2", scalar(q.global_scale, name + ".weight_scale_2"));
  } else {
    Shape shape = q.scales.shape();
    if (q.spec.granularity == Granularity::kTensor) shape = {};
    if (q.spec.granularity == Granularity::kTile) shape = {q.scales.dim(0), 1, q.scales.dim(1), 1};
    if (q.spec.granularity == Granularity::kTile && q.scales.numel() == 1) shape = {};
    tensors.emplace_back(scale, exact_scales(q.scales, DType::kF32, scale).reshape(shape));
  }
  return tensors;
}

void check_blocks(const std::string& name, const QTensor& q) {
  require(q.spec.granularity != Granularity::kGroup || q.cols() % q.spec.group == 0, kWhere,
          "module '{}': expected inputs in whole blocks of {}, got {}", name, q.spec.group, q.cols());
  require(q.spec.element == Element::kE2M1 || q.global_scale == 1.0f, kWhere,
          "module '{}': expected no global scale, got {}", name, q.global_scale);
  require(!q.zeros.defined() && !q.offsets.defined(), kWhere, "module '{}': expected symmetric weights", name);
}

// Every beginning of a quantized module's name with a star, and the name itself: patterns that must not be written.
std::set<std::string> forbidden_patterns(const ExportPlan& plan) {
  std::set<std::string> patterns;
  for (const auto& [name, module] : plan.modules) {
    patterns.insert(name);
    for (std::size_t i = 0; i <= name.size(); ++i) patterns.insert(name.substr(0, i) + "*");
  }
  return patterns;
}

// Modules that stay as they are, each as the shortest "prefix*" or "prefix.*" that holds no quantized module.
std::vector<std::string> excluded(const ExportPlan& plan) {
  const std::set<std::string> forbidden = forbidden_patterns(plan);
  std::set<std::string> patterns;
  for (const std::string& module : unquantized_modules(plan, true)) {
    std::string chosen = module;
    for (std::size_t i = module.find('.'); i != std::string::npos; i = module.find('.', i + 1)) {
      const std::string prefix = module.substr(0, i);
      if (!forbidden.contains(prefix + "*")) {
        chosen = prefix + "*";
      } else if (!forbidden.contains(prefix) && !forbidden.contains(prefix + ".*")) {
        chosen = prefix + ".*";
      } else {
        continue;
      }
      break;
    }
    patterns.insert(chosen);
  }
  return {patterns.begin(), patterns.end()};
}

// quant_algo and what belongs to it.
OrderedJson algorithm_fields(const ModelOptAlgorithm& row, std::int64_t group) {
  OrderedJson fields{{"quant_algo", row.name}};
  if (row.states_group) fields["group_size"] = group;
  if (row.states_awq) {
    fields["has_zero_point"] = false;
    fields["pre_quant_scale"] = true;
  }
  return fields;
}

OrderedJson fields_of(const std::string& name, const ExportModule& module) {
  return algorithm_fields(row_of(name, module), module.weight.spec.group);
}

// The fields that both files share: one algorithm, or one for each module.
OrderedJson algorithms(const ExportPlan& plan) {
  if (plan.modules.empty()) return {{"quant_algo", nullptr}};
  const OrderedJson first = fields_of(plan.modules.begin()->first, plan.modules.begin()->second);
  const bool mixed = std::any_of(plan.modules.begin(), plan.modules.end(),
                                 [&](const auto& m) { return fields_of(m.first, m.second) != first; });
  if (!mixed) return first;
  OrderedJson layers = OrderedJson::object();
  for (const auto& [name, module] : plan.modules) layers[name] = fields_of(name, module);
  return {{"quant_algo", "MIXED_PRECISION"}, {"quantized_layers", std::move(layers)}};
}

OrderedJson arguments(int bits, std::string_view type, std::int64_t group = 0) {
  OrderedJson args{{"dynamic", false}, {"num_bits", bits}, {"type", type}};
  if (group > 0) args["group_size"] = group;
  return args;
}

// What a group of config.json says of one algorithm. In a file of one algorithm ModelOpt describes four of them only.
std::optional<OrderedJson> config_group(const OrderedJson& fields, bool mixed) {
  const auto name = fields.at("quant_algo").get<std::string>();
  const std::int64_t group = fields.value("group_size", std::int64_t{0});
  const OrderedJson fp8 = arguments(8, "float"), blocks = arguments(4, "float", group);
  if (name == "FP8") return OrderedJson{{"input_activations", fp8}, {"weights", fp8}};
  if (name == "NVFP4") return OrderedJson{{"input_activations", blocks}, {"weights", blocks}};
  if (name == "W4A16_NVFP4") return OrderedJson{{"weights", blocks}};
  if (name == "NVFP4_SVD") {
    return OrderedJson{
        {"input_activations", blocks}, {"weights", blocks}, {"has_zero_point", false}, {"pre_quant_scale", true}};
  }
  if (!mixed) return std::nullopt;
  if (name == "FP8_PER_CHANNEL_PER_TOKEN") {
    OrderedJson weights = fp8;
    weights["strategy"] = "channel";
    return OrderedJson{{"input_activations", fp8}, {"weights", weights}};
  }
  if (name == "W4A16_AWQ") return OrderedJson{{"weights", arguments(4, "int", group)}};
  if (name == "NVFP4_AWQ" || name == "W4A8_AWQ") {
    return OrderedJson{{"input_activations", arguments(8, "float", group)}, {"weights", blocks}};
  }
  if (name == "W8A16") return OrderedJson{{"weights", arguments(8, "int")}};
  if (name == "W8A8_SQ_PER_CHANNEL") {
    OrderedJson weights = arguments(8, "int");
    weights["strategy"] = "channel";
    return OrderedJson{{"input_activations", arguments(8, "int")}, {"weights", weights}};
  }
  if (name == "W4A8_NVFP4_FP8" || name == "W4A8_MXFP4_FP8") {
    return OrderedJson{{"input_activations", fp8}, {"weights", blocks}};
  }
  if (name == "MXFP8") {
    const OrderedJson wide = arguments(8, "float", group);
    return OrderedJson{{"input_activations", wide}, {"weights", wide}};
  }
  return OrderedJson{{"quant_algo", name}};
}

// Modules of one algorithm share a group; groups in the order in which the model has their first modules.
OrderedJson mixed_groups(const ExportPlan& plan) {
  std::vector<std::pair<OrderedJson, std::vector<std::string>>> groups;
  for (const std::string& name : modules_in_model_order(plan)) {
    const OrderedJson fields = fields_of(name, plan.modules.at(name));
    auto it = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == fields; });
    if (it == groups.end()) {
      groups.emplace_back(fields, std::vector<std::string>());
      it = groups.end() - 1;
    }
    it->second.push_back(name);
  }
  OrderedJson result = OrderedJson::object();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    OrderedJson group = *config_group(groups[i].first, true);
    std::sort(groups[i].second.begin(), groups[i].second.end());
    group["targets"] = groups[i].second;
    result[fmt::format("group_{}", i)] = std::move(group);
  }
  return result;
}

bool states_kv(const ExportPlan& plan) {
  return plan.kv.format != "bf16" && layout_states_kv(Layout::kModelOpt, plan.kv);
}

// vLLM reads this layout only from the producer "modelopt"; the version is that of the layout.
OrderedJson producer() { return {{"name", "modelopt"}, {"version", "0.47.0"}}; }

}  // namespace

NamedTensors modelopt_module(const std::string& name, const ExportModule& module, DType model_dtype) {
  const ModelOptAlgorithm& row = row_of(name, module);
  check_blocks(name, module.weight);
  NamedTensors tensors = weight_tensors(name, row, module.weight);
  if (row.scheme.fp8_weight_scale) {
    tensors.emplace_back(name + ".weight_scale_2", scalar(module.fp8_weight_scale, name + ".weight_scale_2"));
  }
  if (has_static_scale(module.input.kind)) {
    tensors.emplace_back(name + ".input_scale", scalar(module.input.scale, name + ".input_scale"));
  }
  if (module.input_scales.defined()) {
    tensors.emplace_back(name + ".pre_quant_scale",
                         exact_scales(module.input_scales, model_dtype, name + ".pre_quant_scale"));
  }
  if (module.low_rank_a.defined()) {
    tensors.emplace_back(name + ".weight_quantizer._svdquant_lora_a", module.low_rank_a);
    tensors.emplace_back(name + ".weight_quantizer._svdquant_lora_b", module.low_rank_b);
  }
  return tensors;
}

OrderedJson modelopt_config(const ExportPlan& plan) {
  const OrderedJson shared = algorithms(plan);
  const bool mixed = shared["quant_algo"] == "MIXED_PRECISION";
  OrderedJson config = OrderedJson::object();
  if (mixed) {
    config["config_groups"] = mixed_groups(plan);
    config["quantized_layers"] = shared["quantized_layers"];
  } else if (auto group = shared["quant_algo"].is_null() ? std::nullopt : config_group(shared, false)) {
    (*group)["targets"] = {"Linear"};
    config["config_groups"]["group_0"] = *group;
  }
  config["ignore"] = mixed || shared["quant_algo"].is_null() ? std::vector<std::string>{} : excluded(plan);
  if (!shared["quant_algo"].is_null()) config["quant_algo"] = shared["quant_algo"];
  if (states_kv(plan)) config["kv_cache_scheme"] = arguments(8, "float");
  config["producer"] = producer();
  config["quant_method"] = "modelopt";
  return config;
}

OrderedJson modelopt_hf_quant_config(const ExportPlan& plan) {
  const OrderedJson shared = algorithms(plan);
  OrderedJson quantization{{"quant_algo", shared["quant_algo"]}, {"kv_cache_quant_algo", nullptr}};
  if (states_kv(plan)) quantization["kv_cache_quant_algo"] = "FP8";
  quantization.update(shared);
  const bool one = !shared["quant_algo"].is_null() && shared["quant_algo"] != "MIXED_PRECISION";
  if (one) quantization["exclude_modules"] = excluded(plan);
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
