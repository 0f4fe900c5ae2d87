#include "hf/synth_qwen2_vl.h"

namespace halftone {
namespace {

constexpr std::int64_t kPatch = 14, kTemporalPatch = 2, kMerge = 2, kMlpRatio = 4;

using Table = std::vector<std::pair<std::string, Shape>>;

void add_linear(Table& table, const std::string& module, std::int64_t outputs, std::int64_t inputs, bool bias) {
  table.emplace_back(module + ".weight", Shape{outputs, inputs});
  if (bias) table.emplace_back(module + ".bias", Shape{outputs});
}

void add_layer_norm(Table& table, const std::string& module, std::int64_t width) {
  table.emplace_back(module + ".weight", Shape{width});
  table.emplace_back(module + ".bias", Shape{width});
}

void add_decoder_layer(Table& table, const std::string& layer, const Qwen2VlSizes& s) {
  const std::int64_t head = s.hidden / s.heads;
  table.emplace_back(layer + "input_layernorm.weight", Shape{s.hidden});
  add_linear(table, layer + "self_attn.q_proj", s.hidden, s.hidden, true);
  add_linear(table, layer + "self_attn.k_proj", s.kv_heads * head, s.hidden, true);
  add_linear(table, layer + "self_attn.v_proj", s.kv_heads * head, s.hidden, true);
  add_linear(table, layer + "self_attn.o_proj", s.hidden, s.hidden, false);
  table.emplace_back(layer + "post_attention_layernorm.weight", Shape{s.hidden});
  add_linear(table, layer + "mlp.gate_proj", s.intermediate, s.hidden, false);
  add_linear(table, layer + "mlp.up_proj", s.intermediate, s.hidden, false);
  add_linear(table, layer + "mlp.down_proj", s.hidden, s.intermediate, false);
}

void add_vision_block(Table& table, const std::string& block, std::int64_t width) {
  add_layer_norm(table, block + "norm1", width);
  add_linear(table, block + "attn.qkv", 3 * width, width, true);
  add_linear(table, block + "attn.proj", width, width, true);
  add_layer_norm(table, block + "norm2", width);
  add_linear(table, block + "mlp.fc1", kMlpRatio * width, width, true);
  add_linear(table, block + "mlp.fc2", width, kMlpRatio * width, true);
}

}  // namespace

const std::vector<Qwen2VlSizes>& qwen2_vl_sizes() {
  // name, hidden, intermediate, layers, heads, kv_heads, vocabulary, tied, vision: depth, width, heads
  static const std::vector<Qwen2VlSizes> kSizes{
      {"qwen2-vl-2b", 1536, 8960, 28, 12, 2, 151936, true, 32, 1280, 16},
      {"qwen2-vl-7b", 3584, 18944, 28, 28, 4, 152064, false, 32, 1280, 16},
      {"qwen2-vl-72b", 8192, 29568, 80, 64, 8, 152064, false, 32, 1280, 16},
      {"qwen2-vl-tiny", 128, 256, 2, 2, 1, 151936, true, 2, 64, 2},
  };
  return kSizes;
}

Table qwen2_vl_tensors(const Qwen2VlSizes& s) {
  Table table;
  table.emplace_back("model.embed_tokens.weight", Shape{s.vocabulary, s.hidden});
  for (std::int64_t i = 0; i < s.layers; ++i) add_decoder_layer(table, fmt::format("model.layers.{}.", i), s);
  table.emplace_back("model.norm.weight", Shape{s.hidden});
  if (!s.tied) table.emplace_back("lm_head.weight", Shape{s.vocabulary, s.hidden});
  table.emplace_back("visual.patch_embed.proj.weight", Shape{s.vision_width, 3, kTemporalPatch, kPatch, kPatch});
  for (std::int64_t i = 0; i < s.vision_depth; ++i) {
    add_vision_block(table, fmt::format("visual.blocks.{}.", i), s.vision_width);
  }
  const std::int64_t merged = s.vision_width * kMerge * kMerge;
  add_layer_norm(table, "visual.merger.ln_q", s.vision_width);
  add_linear(table, "visual.merger.mlp.0", merged, merged, true);
  add_linear(table, "visual.merger.mlp.2", s.hidden, merged, true);
  return table;
}

OrderedJson qwen2_vl_config(const Qwen2VlSizes& s) {
  const std::int64_t pairs =
      s.hidden / s.heads / 2;  // rotary pairs: a quarter for time, three eighths each for height and width
  OrderedJson config;
  config["architectures"] = {"Qwen2VLForConditionalGeneration"};
  config["attention_dropout"] = 0.0;
  config["bos_token_id"] = 151643;
  config["eos_token_id"] = 151645;
  config["vision_start_token_id"] = 151652;
  config["vision_end_token_id"] = 151653;
  config["vision_token_id"] = 151654;
  config["image_token_id"] = 151655;
  config["video_token_id"] = 151656;
  config["hidden_act"] = "silu";
  config["hidden_size"] = s.hidden;
  config["initializer_range"] = 0.02;
  config["intermediate_size"] = s.intermediate;
  config["max_position_embeddings"] = 32768;
  config["max_window_layers"] = s.layers;
  config["model_type"] = "qwen2_vl";
  config["num_attention_heads"] = s.heads;
  config["num_hidden_layers"] = s.layers;
  config["num_key_value_heads"] = s.kv_heads;
  config["rms_norm_eps"] = 1e-06;
  config["rope_theta"] = 1000000.0;
  config["sliding_window"] = 32768;
  config["tie_word_embeddings"] = s.tied;
  config["torch_dtype"] = "bfloat16";
  config["use_cache"] = true;
  config["use_sliding_window"] = false;
  config["vision_config"] = {{"depth", s.vision_depth},
                             {"embed_dim", s.vision_width},
                             {"mlp_ratio", kMlpRatio},
                             {"num_heads", s.vision_heads},
                             {"in_chans", 3},
                             {"hidden_size", s.hidden},
                             {"patch_size", kPatch},
                             {"spatial_merge_size", kMerge},
                             {"spatial_patch_size", kPatch},
                             {"temporal_patch_size", kTemporalPatch}};
  config["rope_scaling"] = {{"type", "mrope"}, {"mrope_section", {pairs / 4, pairs * 3 / 8, pairs * 3 / 8}}};
  config["vocab_size"] = s.vocabulary;
  return config;
}

OrderedJson qwen2_vl_preprocessor_config() {
  return {{"min_pixels", 3136},
          {"max_pixels", 12845056},
          {"patch_size", kPatch},
          {"temporal_patch_size", kTemporalPatch},
          {"merge_size", kMerge},
          {"image_mean", {0.48145466, 0.4578275, 0.40821073}},
          {"image_std", {0.26862954, 0.26130258, 0.27577711}},
          {"image_processor_type", "Qwen2VLImageProcessor"},
          {"processor_class", "Qwen2VLProcessor"}};
}

OrderedJson qwen2_vl_generation_config() {
  return {
      {"bos_token_id", 151643},    {"pad_token_id", 151643}, {"do_sample", true}, {"eos_token_id", {151645, 151643}},
      {"repetition_penalty", 1.0}, {"temperature", 0.01},    {"top_p", 0.001},    {"top_k", 1}};
}

}  // namespace halftone
