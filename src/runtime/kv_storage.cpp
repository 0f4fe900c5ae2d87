#include "runtime/kv_storage.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/rounding.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/kv_int8.h"
#include "hf/kv_cache_key.h"
#include "ops/elementwise_kernels.h"
#include "ops/kv_codes.h"
#include "ops/rope_kernels.h"

namespace halftone {
namespace {

constexpr std::int64_t kGrowth = 64;  // tokens

// One scale for each head: stored ones are given by head or for all.
std::vector<float> by_head(const std::vector<float>& stored, std::int64_t kv_heads, std::string_view source) {
  require(stored.size() == 1 || static_cast<std::int64_t>(stored.size()) == kv_heads, source,
          "expected 1 or {} KV scales of a layer, found {}", kv_heads, stored.size());
  if (stored.size() == 1) return std::vector<float>(static_cast<std::size_t>(kv_heads), stored[0]);
  return stored;
}

std::vector<float> largest(const std::vector<float>& scales) {
  return std::vector<float>(scales.size(), *std::max_element(scales.begin(), scales.end()));
}

// Copies the first `length` rows of each head from one capacity to another.
void copy_heads(const Tensor& from, std::int64_t length, Tensor& to) {
  const std::int64_t row = to.dim(2);
  for (std::int64_t h = 0; h < to.dim(0); ++h) {
    std::memcpy(to.bits<std::uint8_t>() + h * to.dim(1) * row, from.bits<std::uint8_t>() + h * from.dim(1) * row,
                static_cast<std::size_t>(length * row));
  }
}

void grow(Tensor& store, std::int64_t heads, std::int64_t capacity, std::int64_t row, std::int64_t length) {
  Tensor larger(DType::kU8, {heads, capacity, row});
  if (store.defined()) copy_heads(store, length, larger);
  store = std::move(larger);
}

}  // namespace

std::int64_t KvLayout::element_bytes() const {
  return storage == Storage::kF32 ? 4 : storage == Storage::kBF16 ? 2 : 1;
}

std::int64_t KvLayout::bytes_per_token() const { return 2 * layers * kv_heads * head_dim * element_bytes(); }

KvLayout make_kv_layout(const std::string& format, const KvQuantization& stored, const DecoderConfig& config,
                        Numerics numerics, std::vector<Tensor> key_bias, std::string_view source) {
  const std::string& name = format.empty() ? stored.format : format;
  KvLayout layout{name,
                  kv_is_int8(name) ? KvLayout::Storage::kInt8 : KvLayout::Storage::kE4M3,
                  config.layers,
                  config.kv_heads,
                  config.head_dim,
                  {},
                  {}};
  if (name == "bf16") {
    layout.storage = numerics == Numerics::kF32 ? KvLayout::Storage::kF32 : KvLayout::Storage::kBF16;
    return layout;
  }
  require(is_kv_format(name), "kv format", "expected one of {}, got '{}'", fmt::join(kKvFormats, ", "), name);
  // scales by head serve per tensor, too (their largest); those of de-biased keys serve nothing else
  const bool by_layer = name == "fp8_calibrated" || name == "int8_calibrated";
  const bool served = name == stored.format ||
                      (by_layer && kv_has_head_scales(stored.format) && kv_is_int8(name) == kv_is_int8(stored.format));
  require(name == "fp8" || served, source, "KV format {}: expected its scales in the checkpoint, found those of {}",
          name, stored.format);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    if (name == "fp8") {
      const std::vector<float> ones(static_cast<std::size_t>(config.kv_heads), 1.0f);
      layout.scales.push_back({ones, ones});
      continue;
    }
    require(static_cast<std::int64_t>(stored.layers.size()) == config.layers, source,
            "expected KV scales of {} layers, found {}", config.layers, stored.layers.size());
    const KvScales& scales = stored.layers[static_cast<std::size_t>(i)];
    KvScales mine{by_head(scales.k, config.kv_heads, source), by_head(scales.v, config.kv_heads, source)};
    if (by_layer) mine = {largest(mine.k), largest(mine.v)};
    layout.scales.push_back(std::move(mine));
  }
  if (name == "fp8_debiased") layout.key_bias = std::move(key_bias);
  return layout;
}

StoredKvCache::StoredKvCache(std::shared_ptr<const KvLayout> layout) : layout_(std::move(layout)) {
  store_.resize(static_cast<std::size_t>(layout_->layers));
  k_heads_.resize(static_cast<std::size_t>(layout_->kv_heads));
  v_heads_.resize(static_cast<std::size_t>(layout_->kv_heads));
  rotated_.resize(static_cast<std::size_t>(layout_->head_dim));
}

void StoredKvCache::reserve(std::int64_t tokens) {
  if (tokens <= capacity_) return;
  const std::int64_t capacity = round_up(std::max(tokens, capacity_ + capacity_ / 2), kGrowth);
  const std::int64_t heads = layout_->kv_heads, row = layout_->head_dim * layout_->element_bytes();
  for (LayerStore& store : store_) {
    grow(store.k, heads, capacity, row, length_);
    grow(store.v, heads, capacity, row, length_);
  }
  if (layout_->storage != KvLayout::Storage::kF32) {
    k_scratch_ = Tensor(DType::kF32, {heads, capacity, layout_->head_dim});
    v_scratch_ = Tensor(DType::kF32, {heads, capacity, layout_->head_dim});
  }
  if (debiased()) {
    const std::int64_t bytes = layout_->head_dim / 2 * 4;
    for (Tensor* table : {&cos_, &sin_}) {
      Tensor larger(DType::kF32, {capacity, layout_->head_dim / 2});
      if (table->defined()) std::memcpy(larger.raw(), table->raw(), static_cast<std::size_t>(length_ * bytes));
      *table = std::move(larger);
    }
  }
  capacity_ = capacity;
}

void StoredKvCache::begin(const Tensor& cos, const Tensor& sin) {
  announced_ = cos.dim(0);
  reserve(length_ + announced_);
  if (!debiased()) return;
  std::copy_n(cos.data<float>(), cos.numel(), cos_.data<float>() + length_ * cos.dim(1));
  std::copy_n(sin.data<float>(), sin.numel(), sin_.data<float>() + length_ * sin.dim(1));
}

void StoredKvCache::rotate_bias(const float* bias, std::int64_t token, float* rotated) const {
  const std::int64_t half = layout_->head_dim / 2;
  std::copy_n(bias, 2 * half, rotated);
  rotate_cpu(cos_.data<float>() + token * half, sin_.data<float>() + token * half, half, Numerics::kF32, rotated);
}

void StoredKvCache::append(std::int64_t layer, const Tensor& k, const Tensor& v) {
  check_rows(k, v, layout_->kv_heads, layout_->head_dim);
  const auto i = static_cast<std::size_t>(layer);
  static const KvScales kNone;
  const KvScales& scales = layout_->scales.empty() ? kNone : layout_->scales.at(i);
  store_rows(k, scales.k, debiased() ? layout_->key_bias.at(i) : Tensor(), store_.at(i).k);
  store_rows(v, scales.v, {}, store_.at(i).v);
}

void StoredKvCache::store_rows(const Tensor& x, const std::vector<float>& scales, const Tensor& bias, Tensor& store) {
  const std::int64_t heads = layout_->kv_heads, d = layout_->head_dim, bytes = layout_->element_bytes();
  for (std::int64_t t = 0; t < x.dim(0); ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      if (debiased()) std::fill(rotated_.begin(), rotated_.end(), 0.0f);
      if (bias.defined()) rotate_bias(bias.data<float>() + h * d, length_ + t, rotated_.data());
      store_row(x.data<float>() + (t * heads + h) * d, scales.empty() ? 1.0f : scales[static_cast<std::size_t>(h)],
                store.bits<std::uint8_t>() + (h * capacity_ + length_ + t) * d * bytes);
    }
  }
}

void StoredKvCache::store_row(const float* row, float scale, std::uint8_t* target) const {
  const std::int64_t d = layout_->head_dim;
  switch (layout_->storage) {
    case KvLayout::Storage::kF32:
      std::memcpy(target, row, static_cast<std::size_t>(d) * 4);
      break;
    case KvLayout::Storage::kBF16:
      for (std::int64_t j = 0; j < d; ++j) {
        const std::uint16_t code = bf16::encode(row[j]);
        std::memcpy(target + 2 * j, &code, 2);
      }
      break;
    case KvLayout::Storage::kE4M3:
      for (std::int64_t j = 0; j < d; ++j) {
        target[j] = e4m3::encode_saturated((row[j] - rotated_[static_cast<std::size_t>(j)]) / scale);
      }
      break;
    case KvLayout::Storage::kInt8:
      for (std::int64_t j = 0; j < d; ++j) target[j] = static_cast<std::uint8_t>(kv_int8::encode(row[j] / scale));
  }
}

const float* StoredKvCache::load_head(const Tensor& store, std::int64_t head, const std::vector<float>& scales,
                                      const Tensor& bias, std::int64_t tokens, Tensor& scratch) {
  const std::int64_t d = layout_->head_dim;
  const std::uint8_t* codes = store.bits<std::uint8_t>() + head * capacity_ * d * layout_->element_bytes();
  if (layout_->storage == KvLayout::Storage::kF32) return reinterpret_cast<const float*>(codes);
  float* target = scratch.data<float>() + head * capacity_ * d;
  if (layout_->storage == KvLayout::Storage::kBF16) {
    decode_bf16(reinterpret_cast<const std::uint16_t*>(codes), tokens * d, target);
    return target;
  }
  const float scale = scales[static_cast<std::size_t>(head)];
  if (layout_->storage == KvLayout::Storage::kInt8) {
    decode_int8(reinterpret_cast<const std::int8_t*>(codes), tokens * d, scale, target);
    return target;
  }
  decode_e4m3(codes, tokens * d, scale, target);
  if (!bias.defined()) return target;
  for (std::int64_t t = 0; t < tokens; ++t) {
    rotate_bias(bias.data<float>() + head * d, t, rotated_.data());
    add_cpu(rotated_.data(), d, Numerics::kF32, target + t * d);
  }
  return target;
}

AttentionKv StoredKvCache::read(std::int64_t layer) {
  const auto i = static_cast<std::size_t>(layer);
  static const KvScales kNone;
  const KvScales& scales = layout_->scales.empty() ? kNone : layout_->scales.at(i);
  const Tensor bias = debiased() ? layout_->key_bias.at(i) : Tensor();
  const std::int64_t tokens = length_ + announced_;
  for (std::int64_t h = 0; h < layout_->kv_heads; ++h) {
    const auto head = static_cast<std::size_t>(h);
    k_heads_[head] = load_head(store_.at(i).k, h, scales.k, bias, tokens, k_scratch_);
    v_heads_[head] = load_head(store_.at(i).v, h, scales.v, {}, tokens, v_scratch_);
  }
  return {k_heads_, v_heads_};
}

void StoredKvCache::copy_prefix(const StoredKvCache& other, std::int64_t length) {
  require(layout_ == other.layout_ && length >= 0 && length <= other.length_, "kv_cache",
          "expected a prefix of at most {} tokens of the same layout, got {}", other.length_, length);
  truncate(0);
  reserve(length);
  if (length == 0) return;
  for (std::size_t i = 0; i < store_.size(); ++i) {
    copy_heads(other.store_[i].k, length, store_[i].k);
    copy_heads(other.store_[i].v, length, store_[i].v);
  }
  if (debiased()) {
    const std::int64_t values = length * layout_->head_dim / 2;
    std::copy_n(other.cos_.data<float>(), values, cos_.data<float>());
    std::copy_n(other.sin_.data<float>(), values, sin_.data<float>());
  }
  length_ = length;
}

}  // namespace halftone
