#pragma once
// The layouts: each turns a module into named tensors, and a plan into the configuration that loaders read.

#include <string>
#include <utility>
#include <vector>

#include "export/export.h"

namespace halftone {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// Layers of the source that stay as they are: the names of matrices and convolutions, embeddings if asked for.
std::vector<std::string> unquantized_modules(const ExportPlan& plan, bool embeddings = false);
// The names of plan.modules as a forward pass meets them.
std::vector<std::string> modules_in_model_order(const ExportPlan& plan);
// `text` for a regular expression of Python: every character but letters, digits and _ escaped.
std::string escape_expression(std::string_view text);
bool is_vision_module(std::string_view module);
bool quantizes_vision(const ExportPlan& plan);
bool is_head(std::string_view module);
bool quantizes_head(const ExportPlan& plan);

// compressed-tensors 0.20: pack-quantized (integers, inputs as they are), int-quantized, float-quantized.
NamedTensors compressed_tensors_module(const std::string& name, const ExportModule& module, DType model_dtype);
// The value of "quantization_config".
OrderedJson compressed_tensors_config(const ExportPlan& plan);
// Scales of the KV cache, rounded to the model's dtype: transformers runs the cache in the dtype of its scales.
// layer_prefix: "model.layers.".
NamedTensors compressed_tensors_kv(const KvQuantization& kv, const std::string& layer_prefix, DType model_dtype);

// ModelOpt 0.47: the algorithms of hf/modelopt_algorithms.h.
NamedTensors modelopt_module(const std::string& name, const ExportModule& module, DType model_dtype);
OrderedJson modelopt_config(const ExportPlan& plan);
// The content of hf_quant_config.json.
OrderedJson modelopt_hf_quant_config(const ExportPlan& plan);
NamedTensors modelopt_kv(const KvQuantization& kv, const std::string& layer_prefix);

// AutoAWQ 0.2, version gemm: int4, symmetric or not, one group length for all.
NamedTensors awq_module(const std::string& name, const ExportModule& module);
OrderedJson awq_config(const ExportPlan& plan);

// GPTQ, checkpoint formats gptq (Layout::kGptq) and gptq_v2 (kGptqV2): int4 and int8, natural order of inputs.
// plan: with one module or more.
NamedTensors gptq_module(const std::string& name, const ExportModule& module, Layout layout);
OrderedJson gptq_config(const ExportPlan& plan);

// bitsandbytes 0.50 as transformers saves it: NF4 with double quantization. The JSON of quant_state ends in spaces, so
// that its length does not depend on the numbers.
NamedTensors bitsandbytes_module(const std::string& name, const ExportModule& module, DType model_dtype);
OrderedJson bitsandbytes_config(const ExportPlan& plan);

// Copies the tokenizer's, processor's and generation files, remote code and licences.
void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

// The value of "halftone_kv_cache".
OrderedJson own_kv_config(const KvQuantization& kv);
// Whether the layout has keys for the KV format; our own key does it otherwise.
bool layout_states_kv(Layout layout, const KvQuantization& kv);
// Whether it also holds the scales exactly; our own key says them again otherwise.
bool layout_holds_kv(Layout layout, const KvQuantization& kv, DType model_dtype);

}  // namespace halftone
