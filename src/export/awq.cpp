// AutoAWQ's layout, version gemm. Sources: AutoAWQ awq/modules/linear/gemm.py, awq/models/_config.py; vLLM awq.py.
#include "export/layouts.h"
#include "export/scales.h"
#include "export/transposed.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "export awq";

void check_module(const std::string& name, const ExportModule& module) {
  const QTensor& q = module.weight;
  require(q.spec.element == Element::kInt4 && module.input.kind == InputQuant::Kind::kNone && !q.offsets.defined(),
          kWhere, "module '{}': expected int4 weights with inputs as they are, got {}", name, to_string(q.spec));
  check_transposed(name, q, kWhere);
  require(q.spec.granularity != Granularity::kGroup || q.cols() % q.spec.group == 0, kWhere,
          "module '{}': expected inputs in whole groups of {}, got {}", name, q.spec.group, q.cols());
}

}  // namespace

NamedTensors awq_module(const std::string& name, const ExportModule& module) {
  check_module(name, module);
  const QTensor& q = module.weight;
  return {{name + ".qweight", pack_rows(transposed_codes(q), 4, WordOrder::kAwq)},
          {name + ".qzeros", pack_rows(transposed_zeros(q), 4, WordOrder::kAwq)},
          {name + ".scales", transposed_scales(q, name + ".scales")}};
}

OrderedJson awq_config(const ExportPlan& plan) {
  std::int64_t group = 0;
  for (const auto& [name, module] : plan.modules) {
    const std::int64_t own = stated_group(module.weight.spec);
    require(group == 0 || group == own, kWhere, "module '{}': expected groups of {} as in the other modules, got {}",
            name, group, own);
    group = own;
  }
  // zero_point is always true: AutoAWQ's kernels subtract one, and for symmetric weights it is 8
  OrderedJson config{{"quant_method", "awq"}, {"bits", 4},         {"group_size", group},
                     {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", unconverted_names(plan)}};
  if (quantizes_head(plan)) config["lm_head"] = true;  // vLLM's and SGLang's word for it
  return config;
}

}  // namespace halftone
