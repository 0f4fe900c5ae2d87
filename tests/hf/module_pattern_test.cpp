#include "hf/module_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace halftone {
namespace {

using testing::UnorderedElementsAre;

bool ct(const char* pattern, const char* module) {
  return ModulePattern::compressed_tensors(pattern, "test").matches(module);
}
bool modelopt(const char* pattern, const char* module) { return ModulePattern::modelopt(pattern).matches(module); }

TEST(ModulePattern, AliasesCoverOldNewAndServerNames) {
  EXPECT_THAT(module_aliases("visual.merger.mlp.0"),
              UnorderedElementsAre("visual.merger.mlp.0", "model.visual.merger.mlp.0"));
  EXPECT_THAT(module_aliases("model.visual.merger.mlp.0"),
              UnorderedElementsAre("visual.merger.mlp.0", "model.visual.merger.mlp.0"));
  EXPECT_THAT(module_aliases("model.layers.0.mlp"),
              UnorderedElementsAre("model.layers.0.mlp", "model.language_model.layers.0.mlp",
                                   "language_model.model.layers.0.mlp"));
  EXPECT_THAT(module_aliases("lm_head"), UnorderedElementsAre("lm_head", "language_model.lm_head"));
  EXPECT_THAT(module_aliases("other"), UnorderedElementsAre("other"));
}

TEST(ModulePattern, ExpressionsMatchFromTheBeginning) {
  EXPECT_TRUE(ct("re:.*visual.*", "visual.blocks.0.attn.qkv"));
  EXPECT_TRUE(ct("re:visual.*", "model.visual.blocks.0.attn.qkv"));  // by its other name
  EXPECT_FALSE(ct("re:blocks.*", "visual.blocks.0.attn.qkv"));
  EXPECT_TRUE(ct("re:.*layers\\.0\\.mlp\\.up_proj$", "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(ct("re:.*layers\\.0\\.mlp\\.up_proj$", "model.layers.10.mlp.up_proj"));
  EXPECT_FALSE(ct("re:.*layers\\.0\\.mlp\\.up$", "model.layers.0.mlp.up_proj"));
  EXPECT_TRUE(ct("re:.*layers.0.mlp", "model.layers.0.mlp.up_proj"));  // the end is not anchored
}

TEST(ModulePattern, NamesMatchWhole) {
  EXPECT_TRUE(ct("model.language_model.layers.1.mlp.up_proj", "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(ct("model.layers.1.mlp", "model.layers.1.mlp.up_proj"));
  EXPECT_TRUE(ct("Linear", "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(ct("Qwen2Attention", "model.layers.1.mlp.up_proj"));
}

TEST(ModulePattern, ModelOptUsesGlobsAndParents) {
  EXPECT_TRUE(modelopt("model.visual*", "visual.blocks.0.attn.qkv"));
  EXPECT_TRUE(modelopt("visual", "visual.blocks.0.attn.qkv"));
  EXPECT_TRUE(modelopt("*.layers.[01].*", "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(modelopt("model.layers.1", "model.layers.10.mlp.up_proj"));
  EXPECT_TRUE(modelopt("lm_head", "lm_head"));
  EXPECT_FALSE(modelopt("lm_head", "lm_header"));
}

TEST(ModulePattern, HostileExpressionsEndInAnError) {
  const std::string name(5000, 'a');
  EXPECT_THROW(ModulePattern::compressed_tensors("re:(a+)+b", "test").matches(name), Error);
  EXPECT_THROW(ModulePattern::compressed_tensors("re:(", "test"), Error);
}

}  // namespace
}  // namespace halftone
