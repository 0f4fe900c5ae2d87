#include "model/decoders/qwen2.h"

#include <algorithm>
#include <cmath>

#include "ops/attention.h"
#include "ops/backend.h"
#include "ops/elementwise.h"
#include "ops/rope.h"

namespace halftone {
namespace {

struct Layer {
  std::string name;
  Norm input_norm, mlp_norm;
  Linear qkv, o_proj, gate_up, down;
};

class Qwen2Decoder final : public Decoder {
 public:
  Qwen2Decoder(const DecoderConfig& config, const Weights& weights, Numerics numerics, Stream& stream)
      : config_(config), numerics_(numerics), norm_("model.norm", weights), head_({"lm_head"}, weights, stream) {
    for (std::int64_t i = 0; i < config.layers; ++i) {
      const std::string name = fmt::format("model.layers.{}", i), attn = name + ".self_attn.", mlp = name + ".mlp.";
      layers_.push_back(
          {name, Norm(name + ".input_layernorm", weights), Norm(name + ".post_attention_layernorm", weights),
           Linear({attn + "q_proj", attn + "k_proj", attn + "v_proj"}, weights, stream),
           Linear({attn + "o_proj"}, weights, stream), Linear({mlp + "gate_proj", mlp + "up_proj"}, weights, stream),
           Linear({mlp + "down_proj"}, weights, stream)});
    }
  }

  void visit(const LayerVisitor& visitor) override {
    for (Layer& layer : layers_) {
      visitor.norm(layer.input_norm);
      visitor.linear(layer.qkv);
      visitor.linear(layer.o_proj);
      visitor.norm(layer.mlp_norm);
      visitor.linear(layer.gate_up);
      visitor.linear(layer.down);
    }
    visitor.norm(norm_);
    visitor.linear(head_);
  }

  void run_layer(std::int64_t index, std::span<const SequenceSlice> slices, const RotationTables& rotation,
                 Tensor& hidden, RunContext run) const override {
    const Layer& layer = layers_.at(static_cast<std::size_t>(index));
    const bool last = index + 1 == config_.layers && run.observer == nullptr;
    const std::vector<Rows> wanted = wanted_rows(slices, last);
    const Tensor mixed = attend(layer, index, slices, wanted, rotation, hidden, run);
    if (mixed.dim(0) == hidden.dim(0)) {
      finish(layer, mixed, hidden, run);
    } else if (mixed.dim(0) > 0) {
      Tensor tail = run.workspace.get("decoder.tail", {mixed.dim(0), config_.hidden});
      gather(hidden, wanted, tail);
      finish(layer, mixed, tail, run);
      scatter(tail, wanted, hidden);
    }
    run.tell_output(layer.name, hidden);
  }

  Tensor logits(const Tensor& hidden, RunContext run) const override {
    Tensor normed = run.workspace.get("decoder.normed", hidden.shape());
    rms_norm(hidden, norm_.weight(), config_.norm_eps, numerics_, normed, run.stream);
    run.tell_output(norm_.module(), normed);
    Tensor y = run.workspace.get("decoder.logits", {hidden.dim(0), config_.vocabulary});
    head_.forward(normed, numerics_, y, run);
    run.tell_output("lm_head", y);
    return y;
  }

 private:
  // Rows [begin, end) of hidden that belong to one slice and go on beyond attention.
  struct Rows {
    std::int64_t begin = 0, end = 0;
    std::int64_t count() const { return end - begin; }
  };

  static std::vector<Rows> wanted_rows(std::span<const SequenceSlice> slices, bool last) {
    std::vector<Rows> rows;
    std::int64_t end = 0;
    for (const SequenceSlice& slice : slices) {
      end += slice.tokens();
      const std::int64_t count = last && slice.wanted >= 0 ? std::min(slice.wanted, slice.tokens()) : slice.tokens();
      rows.push_back({end - count, end});
    }
    return rows;
  }

  void gather(const Tensor& hidden, const std::vector<Rows>& rows, Tensor& tail) const {
    float* target = tail.data<float>();
    for (const Rows& part : rows) {
      const float* source = hidden.data<float>() + part.begin * config_.hidden;
      target = std::copy_n(source, part.count() * config_.hidden, target);
    }
  }

  void scatter(const Tensor& tail, const std::vector<Rows>& rows, Tensor& hidden) const {
    const float* source = tail.data<float>();
    for (const Rows& part : rows) {
      std::copy_n(source, part.count() * config_.hidden, hidden.data<float>() + part.begin * config_.hidden);
      source += part.count() * config_.hidden;
    }
  }

  // Stores keys and values of all rows; returns attention(norm(hidden)) of the wanted ones, [wanted, heads * head_dim].
  Tensor attend(const Layer& layer, std::int64_t index, std::span<const SequenceSlice> slices,
                const std::vector<Rows>& wanted, const RotationTables& rotation, const Tensor& hidden,
                RunContext run) const {
    const std::int64_t n = hidden.dim(0), d = config_.head_dim, heads = config_.heads, kv_heads = config_.kv_heads;
    Tensor normed = run.workspace.get("decoder.normed", {n, config_.hidden});
    rms_norm(hidden, layer.input_norm.weight(), config_.norm_eps, numerics_, normed, run.stream);
    Tensor qkv = run.workspace.get("decoder.qkv", {n, layer.qkv.outputs()});
    layer.qkv.forward(normed, numerics_, qkv, run);
    Tensor q = run.workspace.get("decoder.q", {n, heads, d}), k = run.workspace.get("decoder.k", {n, kv_heads, d});
    Tensor v = run.workspace.get("decoder.v", {n, kv_heads, d});
    split_rows(qkv, q, k, v, run.stream);
    rope(rotation.cos, rotation.sin, numerics_, q, run.stream);
    rope(rotation.cos, rotation.sin, numerics_, k, run.stream);
    if (run.observer != nullptr) run.observer->on_key_value(index, k, v, rotation.cos, rotation.sin);
    Tensor mixed = run.workspace.get("decoder.mixed", {n, heads, d});
    std::int64_t begin = 0, written = 0;
    for (std::size_t i = 0; i < slices.size(); ++i) {
      const std::int64_t end = begin + slices[i].tokens();
      slices[i].cache->append(index, k.rows(begin, end), v.rows(begin, end));
      if (wanted[i].count() > 0) {
        Tensor out = mixed.rows(written, written + wanted[i].count());
        const std::int64_t first_key = slices[i].cache->length() + wanted[i].begin - begin;
        attend_slice(index, *slices[i].cache, first_key, q.rows(wanted[i].begin, end), out, run);
      }
      written += wanted[i].count();
      begin = end;
    }
    return mixed.rows(0, written).reshape({written, heads * d});
  }

  // Query t stands at place first + t of the cache: it sees what came before it and itself, or the sliding window's
  // length of that.
  void attend_slice(std::int64_t index, KvCache& cache, std::int64_t first, const Tensor& q, Tensor& out,
                    RunContext run) const {
    const bool sliding = !config_.sliding_layers.empty() && config_.sliding_layers[static_cast<std::size_t>(index)];
    std::vector<AttentionRange> ranges;
    ranges.reserve(static_cast<std::size_t>(q.dim(0)));
    for (std::int64_t t = 0; t < q.dim(0); ++t) {
      const std::int64_t end = first + t + 1;
      ranges.push_back({sliding ? std::max<std::int64_t>(0, end - config_.sliding_window) : 0, end});
    }
    const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
    attention(q, cache.read(index), ranges, scale, numerics_, out, run.stream);
  }

  // hidden += o_proj(mixed), then hidden += feed_forward(hidden).
  void finish(const Layer& layer, const Tensor& mixed, Tensor& hidden, RunContext run) const {
    Tensor projected = run.workspace.get("decoder.normed", {hidden.dim(0), config_.hidden});
    layer.o_proj.forward(mixed, numerics_, projected, run);
    add(projected, numerics_, hidden, run.stream);
    feed_forward(layer, hidden, run);
  }

  // [n, q | k | v] -> three tensors.
  void split_rows(const Tensor& qkv, Tensor& q, Tensor& k, Tensor& v, Stream& stream) const {
    constexpr std::int64_t kCopiedRows = 32;
    const std::int64_t q_width = config_.heads * config_.head_dim, kv_width = config_.kv_heads * config_.head_dim;
    for_ranges(stream, qkv.dim(0), kCopiedRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const float* row = qkv.data<float>() + t * (q_width + 2 * kv_width);
        std::copy_n(row, q_width, q.data<float>() + t * q_width);
        std::copy_n(row + q_width, kv_width, k.data<float>() + t * kv_width);
        std::copy_n(row + q_width + kv_width, kv_width, v.data<float>() + t * kv_width);
      }
    });
  }

  // hidden += down(silu(gate(norm(hidden))) * up(norm(hidden)))
  void feed_forward(const Layer& layer, Tensor& hidden, RunContext run) const {
    const std::int64_t n = hidden.dim(0);
    Tensor normed = run.workspace.get("decoder.normed", {n, config_.hidden});
    rms_norm(hidden, layer.mlp_norm.weight(), config_.norm_eps, numerics_, normed, run.stream);
    Tensor gate_up = run.workspace.get("decoder.gate_up", {n, 2 * config_.intermediate});
    layer.gate_up.forward(normed, numerics_, gate_up, run);
    Tensor inner = run.workspace.get("decoder.inner", {n, config_.intermediate});
    silu_mul(gate_up, numerics_, inner, run.stream);
    layer.down.forward(inner, numerics_, normed, run);
    add(normed, numerics_, hidden, run.stream);
  }

  DecoderConfig config_;
  Numerics numerics_;
  std::vector<Layer> layers_;
  Norm norm_;
  Linear head_;
};

}  // namespace

std::unique_ptr<Decoder> make_qwen2_decoder(const DecoderConfig& config, const Weights& weights, Numerics numerics,
                                            Stream& stream) {
  return std::make_unique<Qwen2Decoder>(config, weights, numerics, stream);
}

}  // namespace halftone
