#include "model/qwen2_vl.h"

namespace halftone {
namespace {

class TableBuilder {
 public:
  void linear(std::string module, RuleClass rule_class, std::int64_t layer, std::int64_t outputs, std::int64_t inputs,
              bool bias) {
    add(std::move(module), rule_class, layer, {outputs, inputs}, bias).linear = true;
  }
  void norm(std::string module, RuleClass rule_class, std::int64_t layer, std::int64_t width, bool bias) {
    add(std::move(module), rule_class, layer, {width}, bias);
  }
  ModuleInfo& add(std::string module, RuleClass rule_class, std::int64_t layer, Shape shape, bool bias) {
    ModuleInfo info;
    info.module = std::move(module);
    info.rule_class = rule_class;
    info.layer = layer;
    info.shape = std::move(shape);
    info.has_bias = bias;
    return rows.emplace_back(std::move(info));
  }

  std::vector<ModuleInfo> rows;
};

void add_vision(const VisionConfig& config, TableBuilder& table) {
  constexpr RuleClass kClass = RuleClass::kVision;
  const std::int64_t width = config.width;
  table.add("visual.patch_embed.proj", kClass, -1,
            {width, config.channels, config.temporal_patch_size, config.patch_size, config.patch_size}, false);
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const std::string block = fmt::format("visual.blocks.{}.", i);
    table.norm(block + "norm1", kClass, i, width, true);
    table.linear(block + "attn.qkv", kClass, i, 3 * width, width, true);
    table.linear(block + "attn.proj", kClass, i, width, width, true);
    table.norm(block + "norm2", kClass, i, width, true);
    table.linear(block + "mlp.fc1", kClass, i, config.mlp_width, width, true);
    table.linear(block + "mlp.fc2", kClass, i, width, config.mlp_width, true);
  }
  const std::int64_t merged = width * config.merge_size * config.merge_size;
  table.norm("visual.merger.ln_q", RuleClass::kProjector, -1, width, true);
  table.linear("visual.merger.mlp.0", RuleClass::kProjector, -1, merged, merged, true);
  table.linear("visual.merger.mlp.2", RuleClass::kProjector, -1, config.output, merged, true);
}

void add_decoder(const DecoderConfig& config, TableBuilder& table) {
  const std::int64_t hidden = config.hidden, kv = config.kv_heads * config.head_dim;
  table.add("model.embed_tokens", RuleClass::kEmbedding, -1, {config.vocabulary, hidden}, false);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    table.norm(layer + "input_layernorm", RuleClass::kNorm, i, hidden, false);
    table.linear(layer + "self_attn.q_proj", RuleClass::kAttention, i, hidden, hidden, true);
    table.linear(layer + "self_attn.k_proj", RuleClass::kAttention, i, kv, hidden, true);
    table.linear(layer + "self_attn.v_proj", RuleClass::kAttention, i, kv, hidden, true);
    table.linear(layer + "self_attn.o_proj", RuleClass::kAttention, i, hidden, hidden, false);
    table.norm(layer + "post_attention_layernorm", RuleClass::kNorm, i, hidden, false);
    table.linear(layer + "mlp.gate_proj", RuleClass::kMlp, i, config.intermediate, hidden, false);
    table.linear(layer + "mlp.up_proj", RuleClass::kMlp, i, config.intermediate, hidden, false);
    table.linear(layer + "mlp.down_proj", RuleClass::kMlp, i, hidden, config.intermediate, false);
  }
  table.norm("model.norm", RuleClass::kNorm, -1, hidden, false);
  table.linear("lm_head", RuleClass::kHead, -1, config.vocabulary, hidden, false);
  table.rows.back().tied = config.tied_head;
}

}  // namespace

std::vector<ModuleInfo> qwen2_vl_table(const ModelConfig& config) {
  TableBuilder table;
  add_vision(config.vision, table);
  add_decoder(config.decoder, table);
  return std::move(table.rows);
}

}  // namespace halftone
