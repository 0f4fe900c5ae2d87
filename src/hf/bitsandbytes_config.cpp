// "quantization_config" of bitsandbytes. Source: transformers utils/quantization_config.py BitsAndBytesConfig.
#include "hf/config_fields.h"
#include "hf/quantization_config.h"

namespace halftone {

QuantizationConfig parse_bitsandbytes(const OrderedJson& object, const std::string& source) {
  require(bool_field(object, "load_in_4bit", source).value_or(false), source,
          "field 'load_in_4bit': expected true (LLM.int8() is not read), found false");
  const auto expect = [&](const char* field, const std::string& fallback, std::string_view wanted) {
    const std::string found = string_field(object, field, source).value_or(fallback);
    require(found == wanted, source, "field '{}': expected {}, found '{}'", field, wanted, found.substr(0, 80));
  };
  expect("bnb_4bit_quant_type", "fp4", "nf4");
  expect("bnb_4bit_quant_storage", "uint8", "uint8");
  // llm_int8_skip_modules is not asked: transformers means its own names of modules by it, which are not the file's; a
  // weight that stayed as it was says so itself
  QuantizationConfig config;
  config.layout_ = Layout::kBitsandbytes;
  const LinearScheme scheme{Storage::kBitsandbytes, {Element::kNF4, Granularity::kGroup, 64}, InputQuant::Kind::kNone};
  config.groups_.push_back({{ModulePattern::modelopt("Linear")}, scheme});
  return config;
}

}  // namespace halftone
