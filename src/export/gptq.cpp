// GPTQ's layouts. v1 stores zero points minus one, v2 as they are. Sources: GPTQModel nn_modules/qlinear,
// utils/model.py convert_gptq_v1_to_v2_format, quantization/config.py; vLLM gptq.py, utils/gptq_utils.py.
#include <algorithm>

#include "export/layouts.h"
#include "export/scales.h"
#include "export/transposed.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "export gptq";

void check_module(const std::string& name, const ExportModule& module) {
  const QTensor& q = module.weight;
  const bool integers = q.spec.element == Element::kInt4 || q.spec.element == Element::kInt8;
  require(integers && module.input.kind == InputQuant::Kind::kNone && !q.offsets.defined(), kWhere,
          "module '{}': expected int4 or int8 weights with inputs as they are, got {}", name, to_string(q.spec));
  check_transposed(name, q, kWhere);
  const std::int64_t per_word = 32 / code_bits(q.spec.element);
  require(q.cols() % per_word == 0, kWhere, "module '{}': expected inputs in whole words of {}, got {}", name, per_word,
          q.cols());
}

Tensor stored_zeros(const std::string& name, const QTensor& q, Layout layout) {
  Tensor zeros = transposed_zeros(q);
  if (layout == Layout::kGptqV2) return zeros;
  auto* values = zeros.bits<std::uint8_t>();
  for (std::int64_t i = 0; i < zeros.numel(); ++i) {
    // kernels disagree on what a stored -1 means
    require(values[i] > 0, kWhere,
            "tensor '{}.qzeros': this layout cannot hold a zero point of 0 (group {} of output {}); gptq_v2 can", name,
            i / zeros.dim(1), i % zeros.dim(1));
    --values[i];
  }
  return zeros;
}

Tensor group_indices(const QTensor& q) {
  Tensor indices(DType::kI32, {q.cols()});
  const std::int64_t group = q.spec.granularity == Granularity::kGroup ? q.spec.group : q.cols();
  for (std::int64_t i = 0; i < q.cols(); ++i) indices.data<std::int32_t>()[i] = static_cast<std::int32_t>(i / group);
  return indices;
}

OrderedJson spec_fields(const QuantSpec& spec) {
  return {{"bits", code_bits(spec.element)}, {"group_size", stated_group(spec)}};
}

// What is not stored as the first module is: modules of other formats, and those that stay as they are.
OrderedJson dynamic_rules(const ExportPlan& plan, const QuantSpec& common) {
  OrderedJson rules = OrderedJson::object();
  for (const std::string& name : unconverted_names(plan)) rules["-:" + expression_with(name)] = OrderedJson::object();
  for (const auto& [name, module] : plan.modules) {
    const OrderedJson fields = spec_fields(module.weight.spec);
    if (fields != spec_fields(common)) rules["+:" + expression_with(name_in_layers(name))] = fields;
  }
  return rules;
}

}  // namespace

NamedTensors gptq_module(const std::string& name, const ExportModule& module, Layout layout) {
  check_module(name, module);
  const QTensor& q = module.weight;
  const int bits = code_bits(q.spec.element);
  return {{name + ".qweight", pack_columns(transposed_codes(q), bits)},
          {name + ".qzeros", pack_rows(stored_zeros(name, q, layout), bits, WordOrder::kPlain)},
          {name + ".scales", transposed_scales(q, name + ".scales")},
          {name + ".g_idx", group_indices(q)}};
}

OrderedJson gptq_config(const ExportPlan& plan) {
  const QuantSpec common = plan.modules.begin()->second.weight.spec;
  const bool symmetric = std::none_of(plan.modules.begin(), plan.modules.end(),
                                      [](const auto& m) { return m.second.weight.zeros.defined(); });
  OrderedJson config{{"quant_method", "gptq"}};
  config.update(spec_fields(common));
  config["desc_act"] = false;
  config["sym"] = symmetric;
  config["lm_head"] = quantizes_head(plan);
  config["checkpoint_format"] = plan.layout == Layout::kGptqV2 ? "gptq_v2" : "gptq";
  config["pack_dtype"] = "int32";
  config["dynamic"] = dynamic_rules(plan, common);
  config["meta"] = {{"quantizer", {"halftone:0.1.0"}}};
  return config;
}

}  // namespace halftone
