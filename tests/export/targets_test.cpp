#include "export/targets.h"

#include <gmock/gmock.h>

namespace halftone {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr QuantSpec kInt4{Element::kInt4, Granularity::kGroup, 128}, kInt8{Element::kInt8, Granularity::kChannel, 0};
constexpr QuantSpec kFp8{Element::kE4M3, Granularity::kTensor, 0};

TargetFolder folder(Layout layout, const QuantSpec& spec, InputQuant::Kind inputs = InputQuant::Kind::kNone) {
  TargetFolder result;
  result.layout = layout;
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    result.modules.push_back({fmt::format("model.layers.0.self_attn.{}", name), {256, 256}, spec, inputs});
  }
  return result;
}

std::string refusal(Target target, const TargetFolder& folder) {
  for (const TargetFinding& finding : check_target(target, folder)) {
    if (finding.refused) return finding.rule + ": " + finding.reason;
  }
  return "";
}

TEST(Targets, TakeWhatTheyLoad) {
  EXPECT_THAT(check_target(Target::kVllm, folder(Layout::kCompressedTensors, kInt4)), IsEmpty());
  EXPECT_THAT(check_target(Target::kVllm, folder(Layout::kAwq, kInt4)), IsEmpty());
  EXPECT_THAT(check_target(Target::kTrtLlm, folder(Layout::kModelOpt, kFp8, InputQuant::Kind::kStaticE4M3)), IsEmpty());
  EXPECT_THAT(check_target(Target::kLlamaCpp, folder(Layout::kGguf, {Element::kInt8, Granularity::kGroup, 32})),
              IsEmpty());
}

TEST(Targets, RefuseLayoutsAndAlgorithms) {
  EXPECT_THAT(refusal(Target::kVllm, folder(Layout::kModelOpt, kInt4)),
              HasSubstr("vLLM, ModelOpt algorithms: model.layers.0"));
  EXPECT_THAT(refusal(Target::kVllm, folder(Layout::kGguf, kInt4)), HasSubstr("vLLM, layout"));
  EXPECT_THAT(refusal(Target::kTrtLlm, folder(Layout::kAwq, kInt4)), HasSubstr("TensorRT-LLM, layout"));
  EXPECT_THAT(refusal(Target::kTrtLlm, folder(Layout::kCompressedTensors, kInt8)),
              HasSubstr("compressed-tensors formats"));
  EXPECT_THAT(refusal(Target::kTransformers, folder(Layout::kModelOpt, kFp8)), HasSubstr("transformers, layout"));
  EXPECT_THAT(refusal(Target::kLlamaCpp, folder(Layout::kGptq, kInt4)), HasSubstr("llama.cpp reads GGUF alone"));
  EXPECT_THAT(refusal(Target::kSglang, folder(Layout::kModelOpt, {Element::kE4M3, Granularity::kChannel, 0})),
              HasSubstr("SGLang"));
}

TEST(Targets, SayHowBitsandbytesIsLoaded) {
  const TargetFolder nf4 = folder(Layout::kBitsandbytes, {Element::kNF4, Granularity::kGroup, 64});
  for (const Target target : {Target::kVllm, Target::kSglang, Target::kTransformers}) {
    const std::vector<TargetFinding> findings = check_target(target, nf4);
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_FALSE(findings[0].refused) << findings[0].reason;
  }
  EXPECT_THAT(refusal(Target::kTrtLlm, nf4), HasSubstr("TensorRT-LLM, layout"));
  EXPECT_THAT(refusal(Target::kLlamaCpp, nf4), HasSubstr("llama.cpp, layout"));
}

TEST(Targets, FusedMatricesNeedOneFormat) {
  TargetFolder mixed = folder(Layout::kCompressedTensors, kInt4);
  mixed.modules[2].weights = kInt8;
  EXPECT_THAT(refusal(Target::kVllm, mixed),
              HasSubstr("q_proj is int4 group 128, model.layers.0.self_attn.v_proj is int8"));
  mixed.modules[2].weights = kInt4;
  mixed.modules[3].weights = kInt8;  // o_proj stands alone
  EXPECT_EQ(refusal(Target::kVllm, mixed), "");
}

TEST(Targets, TheVisionTowerAndTheCache) {
  TargetFolder vision = folder(Layout::kModelOpt, kFp8, InputQuant::Kind::kStaticE4M3);
  vision.modules.push_back({"visual.blocks.0.mlp.fc1", {256, 256}, kFp8, InputQuant::Kind::kStaticE4M3});
  EXPECT_THAT(refusal(Target::kVllm, vision), HasSubstr("vision tower: visual.blocks.0.mlp.fc1"));
  TargetFolder cache = folder(Layout::kAwq, kInt4);
  cache.kv_format = "fp8_calibrated";
  const auto findings = check_target(Target::kVllm, cache);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_FALSE(findings[0].refused);
  TargetFolder integers = folder(Layout::kCompressedTensors, kInt8);
  EXPECT_TRUE(check_target(Target::kVllm, integers).empty());
  integers.kv_format = "int8_head";
  ASSERT_EQ(check_target(Target::kVllm, integers).size(), 1u);
  EXPECT_FALSE(check_target(Target::kVllm, integers)[0].refused);
}

TEST(Targets, QuantizedHeads) {
  TargetFolder head = folder(Layout::kBitsandbytes, {Element::kNF4, Granularity::kGroup, 64});
  head.modules.push_back({"lm_head", {4096, 256}, head.modules[0].weights});
  EXPECT_THAT(refusal(Target::kVllm, head), HasSubstr("head: lm_head"));
  EXPECT_THAT(refusal(Target::kSglang, head), HasSubstr("head: lm_head"));
  EXPECT_EQ(refusal(Target::kTransformers, head), "");
  TargetFolder tiles = folder(Layout::kCompressedTensors, {Element::kE4M3, Granularity::kTile, 0});
  EXPECT_EQ(refusal(Target::kSglang, tiles), "");
  tiles.modules.push_back({"lm_head", {4096, 256}, tiles.modules[0].weights});
  EXPECT_THAT(refusal(Target::kSglang, tiles), HasSubstr("head: lm_head"));
}

TEST(Targets, NamesGoBothWays) {
  EXPECT_EQ(target_from_name("llama.cpp"), Target::kLlamaCpp);
  EXPECT_THROW(target_from_name("ollama"), Error);
}

}  // namespace
}  // namespace halftone
