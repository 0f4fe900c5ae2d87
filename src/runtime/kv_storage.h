#pragma once
// The KV cache of one sequence in every KV format:
//   bf16            unquantized: f32 in Numerics::kF32, bf16 in kBF16 (where keys and values are bf16 already)
//   fp8             E4M3, scale 1
//   fp8_calibrated  E4M3, one scale for the keys of a layer and one for its values
//   fp8_head        E4M3, one scale for each key-value head
//   fp8_debiased    as the scales say, and keys are stored without their bias: after RoPE the rotated bias is
//                   subtracted before quantizing and added when read
//   int8_calibrated, int8_head  INT8 (formats/kv_int8.h), scales as those of fp8_calibrated and fp8_head
// Stored: e4m3(clamp(x / scale, -448, 448)) or clamp(rint(x / scale), -127, 127), read: code * scale, rounded to f32. NaN
// stays NaN. Keys are stored after RoPE.

#include <memory>
#include <string>
#include <vector>

#include "hf/checkpoint.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "ops/norm.h"

namespace halftone {

// How the caches of one engine are stored. Immutable and shared by them.
struct KvLayout {
  enum class Storage : std::uint8_t { kF32, kBF16, kE4M3, kInt8 };
  std::string format = "bf16";
  Storage storage = Storage::kF32;
  std::int64_t layers = 0, kv_heads = 0, head_dim = 0;
  std::vector<KvScales> scales;  // kE4M3, kInt8: of each layer, [kv_heads] each
  std::vector<Tensor> key_bias;  // fp8_debiased: of each layer, [kv_heads * head_dim] f32

  std::int64_t element_bytes() const;
  // Of all layers.
  std::int64_t bytes_per_token() const;
};

// The layout of `format` ("" takes the checkpoint's). Throws Error for an unknown format, and when a calibrated one has
// no scales in `stored`, naming `source`. key_bias: of each layer.
KvLayout make_kv_layout(const std::string& format, const KvQuantization& stored, const DecoderConfig& config,
                        Numerics numerics, std::vector<Tensor> key_bias, std::string_view source);

class StoredKvCache final : public KvCache {
 public:
  explicit StoredKvCache(std::shared_ptr<const KvLayout> layout);

  void begin(const Tensor& cos, const Tensor& sin) override;
  void append(std::int64_t layer, const Tensor& k, const Tensor& v) override;
  AttentionKv read(std::int64_t layer) override;

  // Becomes a copy of the first `length` tokens of another cache of the same layout.
  void copy_prefix(const StoredKvCache& other, std::int64_t length);

 private:
  struct LayerStore {
    Tensor k, v;  // kU8, [kv_heads, capacity, head_dim * element_bytes]
  };

  void reserve(std::int64_t tokens);
  void store_rows(const Tensor& x, const std::vector<float>& scales, const Tensor& bias, Tensor& store);
  // One head of a token, less what rotated_ holds.
  void store_row(const float* row, float scale, std::uint8_t* target) const;
  const float* load_head(const Tensor& store, std::int64_t head, const std::vector<float>& scales, const Tensor& bias,
                         std::int64_t tokens, Tensor& scratch);
  void rotate_bias(const float* bias, std::int64_t token, float* rotated) const;
  bool debiased() const { return !layout_->key_bias.empty(); }

  std::shared_ptr<const KvLayout> layout_;
  std::int64_t capacity_ = 0;
  std::vector<LayerStore> store_;
  Tensor cos_, sin_;              // fp8_debiased: [capacity, head_dim / 2]
  Tensor k_scratch_, v_scratch_;  // [kv_heads, capacity, head_dim] f32, of one layer
  std::vector<float> rotated_;    // [head_dim]
  std::vector<const float*> k_heads_, v_heads_;
};

}  // namespace halftone
