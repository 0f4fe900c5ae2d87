#include "hf/quantization_config.h"

#include <algorithm>

#include "hf/config_fields.h"

namespace halftone {
namespace {

bool matches_any(const std::vector<ModulePattern>& patterns, std::string_view module) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const ModulePattern& p) { return p.matches(module); });
}

}  // namespace

QuantizationConfig QuantizationConfig::parse(const OrderedJson& config, std::string_view source,
                                             const OrderedJson& hf_quant_config, std::string_view hf_source) {
  const OrderedJson* object = find_field(config, "quantization_config", source);
  if (!object && hf_quant_config.is_null()) return {};
  if (!object) {
    const OrderedJson* inner = find_field(hf_quant_config, "quantization", hf_source);
    require(inner != nullptr, hf_source, "field 'quantization': missing");
    return parse_modelopt(*inner, std::string(hf_source) + ": quantization");
  }
  const std::string where = std::string(source) + ": quantization_config";
  const auto method = string_field(*object, "quant_method", where);
  require(method.has_value(), where, "field 'quant_method': missing");
  if (*method == "compressed-tensors") return parse_compressed_tensors(*object, where);
  if (*method == "awq") return parse_awq(*object, where);
  if (*method == "gptq") return parse_gptq(*object, where);
  if (*method == "bitsandbytes") return parse_bitsandbytes(*object, where);
  // "modelopt_fp4" and the like are older spellings
  require(method->starts_with("modelopt"), where,
          "field 'quant_method': expected compressed-tensors, modelopt, awq, gptq or bitsandbytes, found '{}'",
          method->substr(0, 80));
  const OrderedJson* inner = find_field(*object, "quantization", where);
  OrderedJson settings = inner ? *inner : *object;
  // some algorithms state their group size in the other file alone
  if (!hf_quant_config.is_null() && !find_field(settings, "group_size", where)) {
    const OrderedJson* second = find_field(hf_quant_config, "quantization", hf_source);
    const OrderedJson* group = second ? find_field(*second, "group_size", hf_source) : nullptr;
    if (group) settings["group_size"] = *group;
  }
  return parse_modelopt(settings, where);
}

QuantizationConfig QuantizationConfig::of_gguf(const std::map<std::string, GgmlType>& modules) {
  QuantizationConfig config;
  config.layout_ = Layout::kGguf;
  std::map<GgmlType, Group> groups;
  for (const auto& [module, type] : modules) {
    Group& group = groups[type];
    group.scheme.storage = Storage::kGgml;
    group.scheme.weights = spec_of_ggml(type).value();
    group.scheme.ggml = type;
    group.targets.push_back(ModulePattern::compressed_tensors(module, "gguf"));
  }
  for (auto& [type, group] : groups) config.groups_.push_back(std::move(group));
  return config;
}

std::optional<LinearScheme> QuantizationConfig::scheme_of(std::string_view module) const {
  if (groups_.empty() || matches_any(ignored_, module)) return std::nullopt;
  for (const auto kind : {ModulePattern::Kind::kName, ModulePattern::Kind::kExpression, ModulePattern::Kind::kClass}) {
    for (const Group& group : groups_) {
      for (const ModulePattern& target : group.targets) {
        if (target.kind() == kind && target.matches(module)) return group.scheme;
      }
    }
  }
  return std::nullopt;
}

}  // namespace halftone
