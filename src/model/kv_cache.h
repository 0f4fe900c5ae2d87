#pragma once
// The keys and values of one sequence, as the decoder sees them. How they are stored is the implementation's affair.

#include <cstdint>
#include <vector>

#include "ops/attention.h"
#include "tensor/tensor.h"

namespace halftone {

class KvCache {
 public:
  virtual ~KvCache() = default;

  // Tokens that all layers hold.
  std::int64_t length() const { return length_; }
  // Announces the next tokens, before any layer appends them. cos, sin: [tokens, head_dim / 2] f32, their rotation.
  virtual void begin(const Tensor& cos, const Tensor& sin) = 0;
  // Stores the announced tokens of one layer. k (after RoPE), v: [tokens, kv_heads, head_dim] f32.
  virtual void append(std::int64_t layer, const Tensor& k, const Tensor& v) = 0;
  // All tokens of one layer that appended, as stored, decoded to f32. Valid until the next call of any function.
  virtual AttentionKv read(std::int64_t layer) = 0;
  // Makes the announced tokens part of length(), after all layers appended them.
  void commit();
  // Forgets all tokens from `length` on (and announced ones that were not committed).
  void truncate(std::int64_t length);

 protected:
  // What append() takes: throws Error for other shapes.
  void check_rows(const Tensor& k, const Tensor& v, std::int64_t kv_heads, std::int64_t head_dim) const;

  std::int64_t length_ = 0, announced_ = 0;
};

// Unquantized, in f32.
class PlainKvCache : public KvCache {
 public:
  PlainKvCache(std::int64_t layers, std::int64_t kv_heads, std::int64_t head_dim);

  void begin(const Tensor& cos, const Tensor& sin) override;
  void append(std::int64_t layer, const Tensor& k, const Tensor& v) override;
  AttentionKv read(std::int64_t layer) override;

 private:
  void reserve(std::int64_t tokens);

  std::int64_t kv_heads_, head_dim_;
  std::int64_t capacity_ = 0;
  std::vector<Tensor> k_, v_;  // by layer: [kv_heads, capacity, head_dim]
  std::vector<const float*> k_heads_, v_heads_;
};

}  // namespace halftone
