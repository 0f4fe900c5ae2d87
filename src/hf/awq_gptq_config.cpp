// "quantization_config" of AutoAWQ and of GPTQ. Sources: AutoAWQ awq/models/_config.py, GPTQModel
// quantization/config.py, transformers utils/quantization_config.py.
#include <algorithm>
#include <cctype>

#include "hf/config_fields.h"
#include "hf/quantization_config.h"

namespace halftone {
namespace {

constexpr std::int64_t kMaxGroup = 1 << 20;

// The first of two spellings that is there.
std::optional<std::int64_t> either(const OrderedJson& object, const char* field, const char* legacy,
                                   const std::string& source) {
  const auto value = integer_field(object, field, source);
  return value ? value : integer_field(object, legacy, source);
}

// int4 or int8 codes in groups of inputs, or, with -1, one group for all inputs.
QuantSpec spec_of(std::int64_t bits, std::int64_t group, bool asymmetric, const std::string& source) {
  require(group == -1 || (group > 0 && group <= kMaxGroup), source,
          "field 'group_size': expected -1 or a number from 1 to {}, found {}", kMaxGroup, group);
  QuantSpec spec;
  spec.element = bits == 4 ? Element::kInt4 : Element::kInt8;
  spec.granularity = group == -1 ? Granularity::kChannel : Granularity::kGroup;
  spec.group = group == -1 ? 0 : group;
  spec.asymmetric = asymmetric;
  return spec;
}

struct GptqFields {
  std::int64_t bits = 4, group_size = 128;
  bool symmetric = true;
};

GptqFields gptq_fields(const OrderedJson& object, GptqFields fields, const std::string& source) {
  fields.bits = integer_field(object, "bits", source).value_or(fields.bits);
  fields.group_size = integer_field(object, "group_size", source).value_or(fields.group_size);
  fields.symmetric = bool_field(object, "sym", source).value_or(fields.symmetric);
  require(fields.bits == 4 || fields.bits == 8, source, "field 'bits': expected 4 or 8, found {}", fields.bits);
  return fields;
}

LinearScheme gptq_scheme(const GptqFields& fields, Storage storage, const std::string& source) {
  return {storage, spec_of(fields.bits, fields.group_size, !fields.symmetric, source), InputQuant::Kind::kNone};
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

QuantizationConfig parse_awq(const OrderedJson& object, const std::string& source) {
  QuantizationConfig config;
  config.layout_ = Layout::kAwq;
  const std::int64_t bits = either(object, "bits", "w_bit", source).value_or(4);
  require(bits == 4, source, "field 'bits': expected 4, found {}", bits);
  const std::string version = string_field(object, "version", source).value_or("gemm");
  require(lower(version) == "gemm", source, "field 'version': expected gemm, found '{}'", version.substr(0, 80));
  const std::int64_t group = either(object, "group_size", "q_group_size", source).value_or(128);
  const bool zero_point = bool_field(object, "zero_point", source).value_or(true);
  const LinearScheme scheme{Storage::kAwq, spec_of(bits, group, zero_point, source), InputQuant::Kind::kNone};
  config.groups_.push_back({{ModulePattern::modelopt("Linear")}, scheme});
  for (const std::string& text : strings_field(object, "modules_to_not_convert", source)) {
    config.ignored_.push_back(ModulePattern::substring(text));
  }
  return config;
}

QuantizationConfig parse_gptq(const OrderedJson& object, const std::string& source) {
  QuantizationConfig config;
  const char* field = find_field(object, "checkpoint_format", source) ? "checkpoint_format" : "format";
  const std::string format = string_field(object, field, source).value_or("gptq");
  require(format == "gptq" || format == "gptq_v2", source, "field '{}': expected gptq or gptq_v2, found '{}'", field,
          format.substr(0, 80));
  const Storage storage = format == "gptq" ? Storage::kGptq : Storage::kGptqV2;
  config.layout_ = format == "gptq" ? Layout::kGptq : Layout::kGptqV2;
  const GptqFields fields = gptq_fields(object, {}, source);
  config.groups_.push_back({{ModulePattern::modelopt("Linear")}, gptq_scheme(fields, storage, source)});
  if (!bool_field(object, "lm_head", source).value_or(false)) {
    config.ignored_.push_back(ModulePattern::modelopt("lm_head"));
  }
  const OrderedJson* dynamic = find_field(object, "dynamic", source);
  if (!dynamic) return config;
  require(dynamic->is_object(), source, "field 'dynamic': expected an object, found {}", shown(*dynamic));
  // "-:expression" leaves modules as they are, "+:expression" or "expression" stores them with other fields
  for (const auto& [key, value] : dynamic->items()) {
    const std::string where = source + ".dynamic";
    const bool marked = key.starts_with("-:") || key.starts_with("+:");
    const auto pattern = ModulePattern::compressed_tensors("re:" + (marked ? key.substr(2) : key), where);
    if (key.starts_with("-:")) {
      config.ignored_.push_back(pattern);
    } else {
      config.groups_.push_back({{pattern}, gptq_scheme(gptq_fields(value, fields, where), storage, where)});
    }
  }
  return config;
}

}  // namespace halftone
