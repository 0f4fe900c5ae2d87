#include "model/device_source.h"

#include <algorithm>

namespace halftone {
namespace {

DeviceLinearSource fused(std::span<const LinearParts> parts) {
  DeviceLinearSource source;
  for (const LinearParts& part : parts) {
    source.weights.push_back(part.weight);
    source.biases.push_back(part.bias);
  }
  const LinearParts& first = parts.front();
  source.input = first.input;
  source.input_scales = first.input_scales;
  source.input_order = first.input_order;
  source.low_rank_a = first.low_rank_a;
  source.low_rank_b = first.low_rank_b;
  return source;
}

DeviceProductsSource products(const Model& model, std::vector<std::string> modules) {
  std::vector<LinearParts> parts;
  std::vector<std::string> names;
  for (const std::string& module : modules) {
    parts.push_back(model.linear_parts(module));
    names.push_back(model.module(module).stored);
  }
  if (LinearProduct::can_fuse(parts)) {
    DeviceLinearSource source = fused(parts);
    source.names = std::move(names);
    return {std::move(source)};
  }
  DeviceProductsSource sources;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    sources.push_back(fused({&parts[i], 1}));
    sources.back().names = {names[i]};
  }
  return sources;
}

DeviceNormSource norm(const Model& model, const std::string& module) {
  return {model.norm_weight(module), model.norm_bias(module)};
}

// What Numerics::kBF16 makes of F16 and F32.
Tensor as_bf16(const Tensor& tensor) {
  return tensor.dtype() == DType::kBF16 ? tensor : from_f32(to_f32(tensor), DType::kBF16);
}

DeviceDecoderLayerSource decoder_layer(const Model& model, std::int64_t index) {
  const std::string name = fmt::format("model.layers.{}.", index), attn = name + "self_attn.", mlp = name + "mlp.";
  return {norm(model, name + "input_layernorm"),
          norm(model, name + "post_attention_layernorm"),
          products(model, {attn + "q_proj", attn + "k_proj", attn + "v_proj"}),
          products(model, {attn + "o_proj"}),
          products(model, {mlp + "gate_proj", mlp + "up_proj"}),
          products(model, {mlp + "down_proj"})};
}

DeviceVisionBlockSource vision_block(const Model& model, std::int64_t index) {
  const std::string name = fmt::format("visual.blocks.{}.", index);
  return {norm(model, name + "norm1"),          norm(model, name + "norm2"),
          products(model, {name + "attn.qkv"}), products(model, {name + "attn.proj"}),
          products(model, {name + "mlp.fc1"}),  products(model, {name + "mlp.fc2"})};
}

}  // namespace

DeviceDecoderSource device_decoder_source(const Model& model) {
  const DecoderConfig& config = model.config().decoder;
  require(std::none_of(config.sliding_layers.begin(), config.sliding_layers.end(), [](bool slides) { return slides; }),
          "cuda", "a sliding window of {} tokens is not supported on a GPU", config.sliding_window);
  DeviceDecoderSource source;
  source.layers = config.layers;
  source.hidden = config.hidden;
  source.intermediate = config.intermediate;
  source.heads = config.heads;
  source.kv_heads = config.kv_heads;
  source.head_dim = config.head_dim;
  source.vocabulary = config.vocabulary;
  source.norm_eps = config.norm_eps;
  source.embedding = as_bf16(model.stored_weight("model.embed_tokens"));
  source.layer = [&model](std::int64_t index) { return decoder_layer(model, index); };
  source.norm = norm(model, "model.norm");
  source.head = products(model, {"lm_head"});
  return source;
}

DeviceVisionSource device_vision_source(const Model& model) {
  const VisionConfig& config = model.config().vision;
  DeviceVisionSource source;
  source.depth = config.depth;
  source.width = config.width;
  source.heads = config.heads;
  source.head_dim = config.head_dim;
  source.mlp_width = config.mlp_width;
  source.columns = config.columns();
  source.merge = config.merge_size * config.merge_size;
  source.output = config.output;
  const Tensor patch = model.stored_weight("visual.patch_embed.proj").reshape({config.width, config.columns()});
  source.patch_embed = {DeviceLinearSource{{wrap_unquantized(patch)}, {Tensor()}, {}, {}, {}, {}, {}}};
  source.block = [&model](std::int64_t index) { return vision_block(model, index); };
  source.merger_norm = norm(model, "visual.merger.ln_q");
  source.merger_first = products(model, {"visual.merger.mlp.0"});
  source.merger_second = products(model, {"visual.merger.mlp.2"});
  return source;
}

}  // namespace halftone
