#include "model/kv_cache.h"

#include <algorithm>

namespace halftone {
namespace {

// Writes x [tokens, heads, d] behind the first `length` rows of each head of y [heads, capacity, d].
void append_rows(const Tensor& x, std::int64_t length, std::int64_t capacity, Tensor& y) {
  const std::int64_t tokens = x.dim(0), heads = x.dim(1), d = x.dim(2);
  const float* source = x.data<float>();
  float* target = y.data<float>();
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      std::copy_n(source + (t * heads + h) * d, d, target + (h * capacity + length + t) * d);
    }
  }
}

Tensor grown(const Tensor& old, std::int64_t length, std::int64_t heads, std::int64_t old_capacity,
             std::int64_t capacity, std::int64_t d) {
  Tensor larger(DType::kF32, {heads, capacity, d});
  if (old.defined()) {
    for (std::int64_t h = 0; h < heads; ++h) {
      std::copy_n(old.data<float>() + h * old_capacity * d, length * d, larger.data<float>() + h * capacity * d);
    }
  }
  return larger;
}

}  // namespace

void KvCache::commit() {
  length_ += announced_;
  announced_ = 0;
}

void KvCache::truncate(std::int64_t length) {
  require(length >= 0 && length <= length_, "kv_cache", "expected a length of 0 to {}, got {}", length_, length);
  length_ = length;
  announced_ = 0;
}

void KvCache::check_rows(const Tensor& k, const Tensor& v, std::int64_t kv_heads, std::int64_t head_dim) const {
  if (k.shape() == Shape{announced_, kv_heads, head_dim} && v.shape() == k.shape()) return;
  fail("kv_cache", "expected keys and values [{}, {}, {}], got {} and {}", announced_, kv_heads, head_dim,
       to_string(k.shape()), to_string(v.shape()));
}

PlainKvCache::PlainKvCache(std::int64_t layers, std::int64_t kv_heads, std::int64_t head_dim)
    : kv_heads_(kv_heads), head_dim_(head_dim) {
  k_.resize(static_cast<std::size_t>(layers));
  v_.resize(static_cast<std::size_t>(layers));
  k_heads_.resize(static_cast<std::size_t>(kv_heads));
  v_heads_.resize(static_cast<std::size_t>(kv_heads));
}

void PlainKvCache::reserve(std::int64_t tokens) {
  if (tokens <= capacity_) return;
  const std::int64_t capacity = std::max(tokens, capacity_ + capacity_ / 2);
  for (std::size_t i = 0; i < k_.size(); ++i) {
    k_[i] = grown(k_[i], length_, kv_heads_, capacity_, capacity, head_dim_);
    v_[i] = grown(v_[i], length_, kv_heads_, capacity_, capacity, head_dim_);
  }
  capacity_ = capacity;
}

void PlainKvCache::begin(const Tensor& cos, const Tensor&) {
  announced_ = cos.dim(0);
  reserve(length_ + announced_);
}

void PlainKvCache::append(std::int64_t layer, const Tensor& k, const Tensor& v) {
  check_rows(k, v, kv_heads_, head_dim_);
  append_rows(k, length_, capacity_, k_.at(static_cast<std::size_t>(layer)));
  append_rows(v, length_, capacity_, v_.at(static_cast<std::size_t>(layer)));
}

AttentionKv PlainKvCache::read(std::int64_t layer) {
  const auto i = static_cast<std::size_t>(layer);
  for (std::int64_t h = 0; h < kv_heads_; ++h) {
    const auto head = static_cast<std::size_t>(h);
    k_heads_[head] = k_.at(i).data<float>() + h * capacity_ * head_dim_;
    v_heads_[head] = v_.at(i).data<float>() + h * capacity_ * head_dim_;
  }
  return {k_heads_, v_heads_};
}

}  // namespace halftone
