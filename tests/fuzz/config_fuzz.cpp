// Any bytes are configurations (config.json, then after a line feed hf_quant_config.json) and a shard index, or an
// Error. Seeds: tests/fuzz/seeds/config.
#include <string_view>

#include "hf/quantization_config.h"
#include "hf/shard_index.h"

namespace {

void read_configs(std::string_view config, std::string_view modelopt) {
  using namespace halftone;
  const OrderedJson first = parse_ordered_json(config, "fuzz");
  const OrderedJson second = modelopt.empty() ? OrderedJson() : parse_ordered_json(modelopt, "fuzz2");
  const QuantizationConfig parsed = QuantizationConfig::parse(first, "fuzz", second, "fuzz2");
  for (const char* module : {"model.layers.0.mlp.up_proj", "visual.blocks.1.attn.qkv", "lm_head"})
    parsed.scheme_of(module);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = std::min(text.find('\n'), size);
  try {
    read_configs(text.substr(0, line), text.substr(std::min(line + 1, size)));
  } catch (const halftone::Error&) {
  }
  try {
    halftone::parse_shard_index(halftone::parse_json(text, "fuzz"), "fuzz");
  } catch (const halftone::Error&) {
  }
  return 0;
}
