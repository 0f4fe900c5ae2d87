// Opening real folders: the demo model.
#include "hf/checkpoint.h"

#include <gtest/gtest.h>

namespace halftone {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/model";

TEST(Checkpoint, OpensTheDemoModel) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  EXPECT_EQ(checkpoint.config().at("model_type"), "qwen2_vl");
  EXPECT_EQ(checkpoint.tensors().size(), 165u);
  const TensorInfo& info = checkpoint.tensors().at("visual.patch_embed.proj.weight");
  EXPECT_EQ(info.shape, (Shape{256, 3, 2, 14, 14}));
  EXPECT_EQ(info.dtype, DType::kBF16);
  EXPECT_EQ(info.nbytes, 256 * 1176 * 2);
  EXPECT_FALSE(checkpoint.contains("lm_head.weight"));
  EXPECT_THROW(checkpoint.tensor("lm_head.weight"), Error);
}

TEST(Checkpoint, LoadsAnUnquantizedLinear) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  const LinearParts q = load_linear(checkpoint, "model.layers.3.self_attn.q_proj");
  EXPECT_EQ(q.weight.shape, (Shape{256, 256}));
  EXPECT_EQ(q.weight.spec, QuantSpec{});
  EXPECT_EQ(q.bias.shape(), Shape{256});
  EXPECT_EQ(q.input, InputQuant{});
  EXPECT_FALSE(load_linear(checkpoint, "model.layers.3.mlp.up_proj").bias.defined());
}

TEST(Checkpoint, UntyingAddsANameNotBytes) {
  const Checkpoint tied = Checkpoint::open(kDemo), untied = tied.untied("lm_head", "model.embed_tokens");
  EXPECT_EQ(untied.tensor("lm_head.weight").raw(), tied.tensor("model.embed_tokens.weight").raw());
  EXPECT_EQ(untied.tensors().size(), tied.tensors().size() + 1);
  EXPECT_TRUE(untied.tensors().at("lm_head.weight").shared);
  EXPECT_FALSE(untied.tensors().at("model.embed_tokens.weight").shared);
  EXPECT_FALSE(untied.config().at("tie_word_embeddings").get<bool>());
  EXPECT_TRUE(tied.config().at("tie_word_embeddings").get<bool>());
  EXPECT_EQ(untied.content_hash("model."), tied.content_hash("model."));
  EXPECT_EQ(untied.content_hash(), tied.content_hash());
  EXPECT_THROW(tied.untied("head", "table"), Error);
}

TEST(Checkpoint, ContentHashDependsOnTheTensorsOfThePrefix) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  const std::string all = checkpoint.content_hash(), visual = checkpoint.content_hash("visual.");
  EXPECT_EQ(all.size(), 64u);
  EXPECT_NE(all, visual);
  EXPECT_EQ(Checkpoint::open(kDemo).content_hash("visual."), visual);
}

}  // namespace
}  // namespace halftone
