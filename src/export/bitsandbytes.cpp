// Sources: bitsandbytes 0.50 QuantState.as_dict, pack_dict_to_tensor; transformers BitsAndBytesConfig,
// should_convert_module; vLLM bitsandbytes.py is_layer_skipped_bnb.
#include <algorithm>
#include <set>

#include "export/layouts.h"
#include "formats/dynamic8.h"
#include "formats/nf4.h"
#include "hf/int_packing.h"
#include "hf/module_pattern.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "export bitsandbytes";
constexpr std::int64_t kBlock = 64, kScaleBlock = 256;

void check_module(const std::string& name, const ExportModule& module) {
  const QTensor& q = module.weight;
  require(q.spec == QuantSpec{Element::kNF4, Granularity::kGroup, kBlock} &&
              module.input.kind == InputQuant::Kind::kNone && q.cols() % kBlock == 0,
          kWhere, "module '{}': expected nf4 weights in whole blocks of {} with inputs as they are, got {} {}", name,
          kBlock, to_string(q.spec), to_string(q.shape));
  const std::int64_t blocks = q.scales.numel();
  require(module.nested.codes.defined() && module.nested.codes.shape() == Shape{blocks} &&
              module.nested.absmax.shape() == Shape{(blocks + kScaleBlock - 1) / kScaleBlock},
          kWhere, "module '{}': expected what its {} scales were decoded from, got something else", name, blocks);
}

std::string torch_name(DType dtype) {
  return dtype == DType::kBF16 ? "bfloat16" : dtype == DType::kF16 ? "float16" : "float32";
}

Tensor quant_state(const ExportModule& module, DType model_dtype) {
  const QTensor& q = module.weight;
  std::string text = fmt::format(
      R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "{}", "shape": [{}, {}], "nested_blocksize": {}, )"
      R"("nested_dtype": "float32", "nested_offset": )",
      kBlock, torch_name(model_dtype), q.rows(), q.cols(), kScaleBlock);
  constexpr std::size_t kLongestNumber = 24;
  const std::size_t length = text.size() + kLongestNumber + 1;
  text += fmt::format("{}}}", static_cast<double>(module.nested.offset));
  text.resize(length, ' ');
  Tensor tensor(DType::kU8, {std::ssize(text)});
  std::copy(text.begin(), text.end(), tensor.bits<std::uint8_t>());
  return tensor;
}

}  // namespace

NamedTensors bitsandbytes_module(const std::string& name, const ExportModule& module, DType model_dtype) {
  check_module(name, module);
  const std::string weight = name + ".weight";
  return {{weight, swap_nibbles(module.weight.payload).reshape({module.weight.payload.numel(), 1})},
          {weight + ".absmax", module.nested.codes},
          {weight + ".nested_absmax", module.nested.absmax},
          {weight + ".nested_quant_map", Tensor::from({dynamic8::kValues.begin(), dynamic8::kValues.end()}, {256})},
          {weight + ".quant_map", Tensor::from({nf4::kLevels, nf4::kLevels + 16}, {16})},
          {weight + ".quant_state.bitsandbytes__nf4", quant_state(module, model_dtype)}};
}

OrderedJson bitsandbytes_config(const ExportPlan& plan) {
  // transformers compares the names that it has for modules, vLLM those of the file: all are listed
  std::set<std::string> skipped;
  const bool whole_tower = !quantizes_vision(plan);
  if (whole_tower) skipped = {"visual", "model.visual"};
  for (const std::string& module : unquantized_modules(plan)) {
    if (whole_tower && is_vision_module(module)) continue;
    for (const std::string& alias : module_aliases(module)) skipped.insert(alias);
  }
  const auto info = plan.source.tensors().find(plan.modules.begin()->first + ".weight");
  const DType dtype = info->second.dtype;
  return {{"quant_method", "bitsandbytes"},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"bnb_4bit_compute_dtype", torch_name(dtype)},
          {"bnb_4bit_quant_storage", "uint8"},
          {"bnb_4bit_quant_type", "nf4"},
          {"bnb_4bit_use_double_quant", true},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", skipped},
          {"llm_int8_threshold", 6.0}};
}

}  // namespace halftone
