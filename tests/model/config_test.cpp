// config.json in its two layouts, and files that lie: each gets an error that names the field.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/model.h"
#include "model/qwen2_vl.h"
#include "tests/model/patched_checkpoint.h"

namespace halftone {
namespace {

using testing::PatchedCheckpoint;

const std::filesystem::path kGolden = std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden";

ModelConfig read_patched(const char* folder, const std::function<void(OrderedJson&)>& edit) {
  const PatchedCheckpoint patched(kGolden / folder, edit);
  return read_qwen2_vl_config(Checkpoint::open(patched.path()));
}

TEST(Config, ReadsTheFlatLayout) {
  const ModelConfig config = read_patched("tiny_mha_bf16", [](OrderedJson&) {});
  EXPECT_EQ(config.decoder.hidden, 32);
  EXPECT_EQ(config.decoder.head_dim, 16);
  EXPECT_EQ(config.decoder.mrope_section, (std::array<std::int64_t, 3>{2, 3, 3}));
  EXPECT_EQ(config.decoder.rope_theta, 1e4);
  EXPECT_EQ(config.decoder.sliding_window, 7);
  EXPECT_EQ(config.decoder.sliding_layers, (std::vector<bool>{false, true}));
  EXPECT_TRUE(config.decoder.tied_head);
  EXPECT_EQ(config.vision.columns(), 3 * 2 * 4 * 4);
  EXPECT_EQ(config.vision.mlp_width, 64);
  EXPECT_EQ(config.picture_token, 12);
  EXPECT_EQ(config.stop_tokens, std::vector<std::int32_t>{2});
}

TEST(Config, ReadsTheNestedLayout) {
  const ModelConfig config = read_patched("tiny_untied_f16", [](OrderedJson&) {});
  EXPECT_EQ(config.decoder.heads, 6);
  EXPECT_EQ(config.decoder.kv_heads, 2);
  EXPECT_EQ(config.decoder.rope_theta, 5000.0);
  EXPECT_EQ(config.decoder.sliding_window, 0);
  EXPECT_FALSE(config.decoder.tied_head);
  EXPECT_EQ(config.vision.mlp_width, 72);
}

TEST(Config, LayerTypesDecideWhichLayersSlide) {
  const auto read = [](OrderedJson types) {
    return read_patched("tiny_mha_bf16", [&](OrderedJson& config) { config["layer_types"] = types; }).decoder;
  };
  EXPECT_EQ(read({"sliding_attention", "full_attention"}).sliding_layers, (std::vector<bool>{true, false}));
  EXPECT_TRUE(read({"full_attention", "full_attention"}).sliding_layers.empty());
  EXPECT_THROW(read({"full_attention"}), Error);
  EXPECT_THROW(read({"full_attention", "chunked_attention"}), Error);
  EXPECT_THROW(read({"full_attention", 1}), Error);
}

struct Lie {
  const char* field;
  OrderedJson value;
  const char* named;  // in the error
};

TEST(Config, NamesTheFieldOfALie) {
  const Lie lies[] = {
      {"hidden_size", 0, "'hidden_size'"},
      {"hidden_size", -32, "'hidden_size'"},
      {"hidden_size", 33, "'hidden_size'"},
      {"hidden_size", "32", "'hidden_size'"},
      {"hidden_size", 1e300, "'hidden_size'"},
      {"hidden_size", std::uint64_t{1} << 63, "'hidden_size'"},
      {"num_hidden_layers", 1'000'000'000, "'num_hidden_layers'"},
      {"num_attention_heads", 0, "'num_attention_heads'"},
      {"num_attention_heads", 32, "'num_attention_heads'"},
      {"num_key_value_heads", 3, "'num_key_value_heads'"},
      {"vocab_size", 10, "'image_token_id'"},
      {"rms_norm_eps", -1, "'rms_norm_eps'"},
      {"hidden_act", "gelu", "'hidden_act'"},
      {"head_dim", 8, "'head_dim'"},
      {"rope_scaling", {{"type", "yarn"}}, "'rope_scaling.type'"},
      {"rope_scaling", {{"type", "mrope"}, {"mrope_section", {1, 1}}}, "'rope_scaling.mrope_section'"},
      {"rope_scaling", {{"type", "mrope"}, {"mrope_section", {8, 8, 8}}}, "mrope_section'"},
      {"vision_config", 5, "'vision_config'"},
      {"vision_config", {{"num_heads", 0}}, "'vision_config.num_heads'"},
      {"vision_config", {{"spatial_merge_size", 0}}, "'vision_config.spatial_merge_size'"},
      {"eos_token_id", "two", "'eos_token_id'"},
      {"use_sliding_window", 1, "'use_sliding_window'"},
  };
  for (const Lie& lie : lies) {
    try {
      read_patched("tiny_mha_bf16", [&](OrderedJson& config) { config[lie.field] = lie.value; });
      ADD_FAILURE() << lie.field << " = " << lie.value.dump() << " was taken";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("config.json")) << lie.field;
      EXPECT_THAT(error.what(), ::testing::HasSubstr(lie.named)) << lie.field;
    }
  }
}

TEST(Config, AModelThatDoesNotFitItsTensorsIsAnError) {
  const auto load = [](const std::function<void(OrderedJson&)>& edit) {
    const PatchedCheckpoint patched(kGolden / "tiny_mha_bf16", edit);
    Model::load(Checkpoint::open(patched.path()), {}, default_stream());
  };
  const auto error_of = [&](const char* field, const OrderedJson& value) -> std::string {
    try {
      load([&](OrderedJson& config) { config[field] = value; });
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(error_of("intermediate_size", 40),
              ::testing::HasSubstr("mlp.gate_proj.weight': expected shape [40, 32]"));
  EXPECT_THAT(error_of("num_hidden_layers", 3),
              ::testing::HasSubstr("model.layers.2.input_layernorm.weight': missing"));
  EXPECT_THAT(error_of("vocab_size", 65), ::testing::HasSubstr("expected shape [65, 32], found [64, 32]"));
  EXPECT_THAT(error_of("tie_word_embeddings", false), ::testing::HasSubstr("model.embed_tokens.weight': missing"));
  EXPECT_THAT(error_of("model_type", "llama"), ::testing::HasSubstr("'model_type': expected one of \"qwen2_vl\""));
  const PatchedCheckpoint untied(kGolden / "tiny_tied_f32",
                                 [](OrderedJson& config) { config["tie_word_embeddings"] = false; });
  try {
    Model::load(Checkpoint::open(untied.path()), {}, default_stream());
    ADD_FAILURE() << "a model without its head was taken";
  } catch (const Error& error) {  // which has one name in all versions
    EXPECT_THAT(error.what(), ::testing::EndsWith("tensor 'lm_head.weight': missing"));
  }
}

}  // namespace
}  // namespace halftone
