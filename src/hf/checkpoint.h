#pragma once
// A Hugging Face checkpoint folder: its configuration and its tensors by name, memory-mapped.

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "hf/quantization_config.h"
#include "tensor/qtensor.h"

namespace halftone {

struct TensorInfo {
  DType dtype = DType::kF32;
  Shape shape;
  std::filesystem::path file;
  std::int64_t nbytes = 0;
  bool shared = false;  // the bytes are those of another tensor: of a head that was untied
};

// Immutable; cheap to copy.
class Checkpoint {
 public:
  // Reads config.json and the headers of model.safetensors, or of every shard of model.safetensors.index.json, or of
  // model.gguf and mmproj.gguf, and checks them. Throws Error naming file, tensor, what was expected and what was
  // found.
  static Checkpoint open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const;
  const OrderedJson& config() const;
  const QuantizationConfig& quantization() const;
  const std::map<std::string, TensorInfo>& tensors() const;
  bool contains(std::string_view name) const;
  // For messages: the file that holds the tensor; of a missing one, the file that would hold it or the shards' index.
  std::string file_of(std::string_view name) const;
  // A view into the map. Throws Error when there is no such tensor.
  Tensor tensor(std::string_view name) const;
  // Gives back the memory of the tensors whose names start with `prefix`, after a copy was made; views of them stay
  // valid and read the file again.
  void drop_pages(std::string_view prefix) const;
  // SHA-256 over names, dtypes, shapes and contents of the tensors whose names start with `prefix`. Remembered.
  std::string content_hash(std::string_view prefix = "") const;
  // SHA-256 over names and contents of the other files that decide answers: config.json, generation_config.json, the
  // tokenizer's, the chat template's and the preprocessor's.
  std::string files_hash() const;

  // A view of this checkpoint whose head is not tied to the embedding: a weight stored under one of their two names is there
  // under both, the head's marked as shared, and config() says that they are not tied. The files, and so the hashes, are this
  // checkpoint's. Throws Error when neither weight is there.
  Checkpoint untied(const std::string& head, const std::string& embedding) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// Scales in 8 bits of their own, for writers of layout bitsandbytes: those of quant/nf4_double.h.
struct NestedScales {
  Tensor codes{};   // U8 [blocks]
  Tensor absmax{};  // F32 [ceil(blocks / 256)]
  float offset = 0;
};

// What one linear layer is made of, whatever layout the folder has.
struct LinearParts {
  QTensor weight;
  Tensor bias;  // as stored, or undefined
  InputQuant input;
  // x' = x * input_scales before anything else: AWQ's and SVDQuant's pre_quant_scale. [cols] f32, or undefined.
  Tensor input_scales{};
  // Column j of the payload belongs to input input_order[j]: GPTQ with act order, whose groups are contiguous then.
  // [cols] i32, a permutation, or undefined. Applies to the payload alone, after input_scales.
  Tensor input_order{};
  // y += B (A x'), unquantized: SVDQuant. A [r, cols], B [rows, r], both kF32, kF16 or kBF16, or both undefined.
  Tensor low_rank_a{}, low_rank_b{};
  bool prescaled = false;      // the input was scaled by AWQ or SVDQuant: in a norm, or by input_scales
  float fp8_weight_scale = 0;  // ModelOpt's W4A8_AWQ: largest |W| / 448, for engines that run the weights in FP8
  // Layout gguf: the weight as the file holds it, U8 [rows, bytes of a row], for writers: scale = d * sc does not say
  // what d and sc are. Undefined elsewhere, and where nobody writes.
  Tensor blocks{};
  // Layout bitsandbytes: what the scales of the weight were decoded from, for writers. Undefined elsewhere.
  NestedScales nested{};
};

// Reads `module` ("model.layers.0.mlp.up_proj") by the folder's quantization_config (compressed-tensors int-, pack- and
// float-quantized, ...; bitsandbytes) or unquantized. Throws Error naming the tensor and the rule.
LinearParts load_linear(const Checkpoint& checkpoint, std::string_view module);

// Scales of the KV cache that a folder carries, by layer: our own key "halftone_kv_cache" of config.json, or the
// layout's.
struct KvScales {
  std::vector<float> k, v;  // [kv_heads] or [1]; empty: none stored
};

// The KV format that the folder asks for ("bf16" when it says nothing) and the scales of `layers` layers.
struct KvQuantization {
  std::string format = "bf16";
  std::vector<KvScales> layers;
};
KvQuantization load_kv_quantization(const Checkpoint& checkpoint, std::int64_t layers);

}  // namespace halftone
