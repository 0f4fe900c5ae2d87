#pragma once
// What a folder says about its quantization: "quantization_config" of config.json (compressed-tensors, ModelOpt,
// AutoAWQ, GPTQ, bitsandbytes) or ModelOpt's hf_quant_config.json. Sources: compressed_tensors/quantization/quant_config.py,
// quant_args.py and utils/match.py of compressed-tensors 0.20; modelopt/torch/export/quant_utils.py of ModelOpt 0.47.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "hf/ggml_types.h"
#include "hf/layout.h"
#include "hf/module_pattern.h"
#include "tensor/qtensor.h"

namespace halftone {

// The tensors that one quantized weight is stored as; M is the module's name.
enum class Storage : std::uint8_t {
  kPlain,          // M.weight I8 or F8_E4M3 [rows, cols], M.weight_scale, perhaps M.weight_zero_point
  kPacked,         // M.weight_packed I32 [rows, ceil(cols * bits / 32)], M.weight_shape [2], M.weight_scale, perhaps
                   // M.weight_zero_point I32, packed along the rows
  kBlocks,         // M.weight U8 [rows, cols / 2], M.weight_scale F8_E4M3 (MX: U8) [rows, cols / group], without MX
                   // M.weight_scale_2 F32
  kPackedBlocks,   // M.weight_packed U8 [rows, cols / 2], M.weight_scale as kBlocks; not MX: M.weight_global_scale F32,
                   // the inverse of what codes are multiplied by
  kPackedSixBits,  // M.weight_packed U8 [rows, cols * 3 / 4], M.weight_scale U8 [rows, cols / 32]
  kRowPairs,  // M.weight U8 [rows / 2, cols], the even row in the low nibble, M.weight_scale F32 [rows, cols / group]
  // b bits a code, groups of inputs; M.scales F16 [groups, rows]. AutoAWQ's codes lie in WordOrder::kAwq.
  kAwq,     // M.qweight I32 [cols, rows * b / 32], M.qzeros I32 [groups, rows * b / 32]
  kGptq,    // M.qweight I32 [cols * b / 32, rows], M.qzeros I32 [groups, rows * b / 32] minus 1, M.g_idx I32 [cols]
  kGptqV2,  // the same with zero points as they are
  // M.weight U8 [rows * cols / 2, 1], the first of two in the high nibble, M.weight.quant_map F32 [16], M.weight.absmax F32
  // [blocks], or U8 with M.weight.nested_absmax F32 and M.weight.nested_quant_map F32 [256];
  // M.weight.quant_state.bitsandbytes__nf4: JSON as U8
  kBitsandbytes,
  kGgml,  // M.weight U8 [rows, bytes of a row]: blocks of a GGUF file
};

// How one linear layer is stored, and how its input is quantized.
struct LinearScheme {
  Storage storage = Storage::kPlain;
  QuantSpec weights;
  InputQuant::Kind input = InputQuant::Kind::kNone;
  bool input_scales = false;       // M.pre_quant_scale, where no norm took it over
  bool low_rank = false;           // M.weight_quantizer._svdquant_lora_a and _b
  bool fp8_weight_scale = false;   // M.weight_scale_2 of weights that are run in FP8 (W4A8_AWQ)
  GgmlType ggml = GgmlType::kF32;  // kGgml
  bool operator==(const LinearScheme&) const = default;
};

// Where scales of an FP8 KV cache are to be found.
enum class KvScheme : std::uint8_t {
  kNone,       // the cache is not quantized
  kModelOpt,   // self_attn.k_proj.k_scale, v_proj.v_scale; absent: scale 1.0
  kPerTensor,  // compressed-tensors: self_attn.k_scale, v_scale [1]
  kPerHead,    // compressed-tensors: self_attn.k_scale, v_scale [kv_heads, 1, 1]
};

class QuantizationConfig {
 public:
  // Nothing is quantized.
  QuantizationConfig() = default;
  // `config` is config.json; `hf_quant_config` is ModelOpt's file, or null. The sources name the files in errors.
  // Throws Error("[source: path of the object] field 'x': expected ..., found ...").
  static QuantizationConfig parse(const OrderedJson& config, std::string_view source,
                                  const OrderedJson& hf_quant_config, std::string_view hf_source);

  // Layout gguf: the types of the modules that are stored in blocks.
  static QuantizationConfig of_gguf(const std::map<std::string, GgmlType>& modules);

  Layout layout() const { return layout_; }
  KvScheme kv() const { return kv_; }
  // Nothing for a module that is not quantized.
  std::optional<LinearScheme> scheme_of(std::string_view module) const;

  // Filled by the readers of the two layouts.
  struct Group {
    std::vector<ModulePattern> targets;
    LinearScheme scheme;
  };

 private:
  friend QuantizationConfig parse_compressed_tensors(const OrderedJson& object, const std::string& source);
  friend QuantizationConfig parse_modelopt(const OrderedJson& object, const std::string& source);
  friend QuantizationConfig parse_awq(const OrderedJson& object, const std::string& source);
  friend QuantizationConfig parse_gptq(const OrderedJson& object, const std::string& source);
  friend QuantizationConfig parse_bitsandbytes(const OrderedJson& object, const std::string& source);

  Layout layout_ = Layout::kAsIs;
  KvScheme kv_ = KvScheme::kNone;
  std::vector<Group> groups_;
  std::vector<ModulePattern> ignored_;
};

// "quantization_config" of compressed-tensors.
QuantizationConfig parse_compressed_tensors(const OrderedJson& object, const std::string& source);
// "quantization_config" of ModelOpt, or "quantization" of hf_quant_config.json.
QuantizationConfig parse_modelopt(const OrderedJson& object, const std::string& source);
// "quantization_config" of AutoAWQ (version gemm) and of GPTQ (checkpoint_format gptq and gptq_v2, 4 and 8 bits).
QuantizationConfig parse_awq(const OrderedJson& object, const std::string& source);
QuantizationConfig parse_gptq(const OrderedJson& object, const std::string& source);
// "quantization_config" of transformers' BitsAndBytesConfig: 4 bits, NF4.
QuantizationConfig parse_bitsandbytes(const OrderedJson& object, const std::string& source);

}  // namespace halftone
