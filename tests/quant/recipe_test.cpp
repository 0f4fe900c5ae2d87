#include "quant/recipe.h"

#include <gmock/gmock.h>

#include <fstream>

namespace halftone {
namespace {

using ::testing::HasSubstr;

ModuleInfo module(std::string name, RuleClass rule_class, Shape shape, bool linear = true, bool tied = false) {
  ModuleInfo info;
  info.module = info.stored = std::move(name);
  info.rule_class = rule_class;
  info.shape = std::move(shape);
  info.linear = linear;
  info.tied = tied;
  return info;
}

std::vector<ModuleInfo> small_model() {
  return {module("visual.patch_embed.proj", RuleClass::kVision, {64, 48}, false),
          module("visual.blocks.0.attn.qkv", RuleClass::kVision, {192, 64}),
          module("visual.blocks.0.mlp.fc1", RuleClass::kVision, {128, 64}),
          module("visual.merger.mlp.0", RuleClass::kProjector, {256, 256}),
          module("model.embed_tokens", RuleClass::kEmbedding, {100, 64}, false),
          module("model.layers.0.input_layernorm", RuleClass::kNorm, {64}, false),
          module("model.layers.0.self_attn.q_proj", RuleClass::kAttention, {64, 64}),
          module("model.layers.0.mlp.up_proj", RuleClass::kMlp, {128, 64}),
          module("model.layers.1.mlp.up_proj", RuleClass::kMlp, {128, 64}),
          module("lm_head", RuleClass::kHead, {100, 64})};
}

Recipe recipe_of(const std::string& rules, const std::string& head = "layout: compressed-tensors\n") {
  return parse_recipe(head + "rules:\n" + rules, "r", "r.yaml");
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

std::vector<std::string> quantized(const Recipe& recipe, const std::vector<ModuleInfo>& modules) {
  std::vector<std::string> names;
  const auto formats = resolve_rules(recipe, modules);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (formats[i].quantized()) names.push_back(modules[i].module);
  }
  return names;
}

TEST(Recipe, StarReachesTheDecoderAlone) {
  const Recipe recipe = recipe_of("  - {match: '*', weights: int8_channel}\n");
  EXPECT_THAT(quantized(recipe, small_model()),
              testing::ElementsAre("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj",
                                   "model.layers.1.mlp.up_proj"));
}

TEST(Recipe, GlobsThatAlsoMatchTheVisionTowerLeaveItAlone) {
  EXPECT_THAT(quantized(recipe_of("  - {match: '*.mlp.*', weights: int8_channel}\n"), small_model()),
              testing::ElementsAre("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"));
}

TEST(Recipe, NamedPartsAreReached) {
  EXPECT_THAT(quantized(recipe_of("  - {match: 'visual.blocks.*', weights: int8_channel}\n"), small_model()),
              testing::ElementsAre("visual.blocks.0.attn.qkv", "visual.blocks.0.mlp.fc1"));
  EXPECT_THAT(quantized(recipe_of("  - {match: 'lm_head', weights: int8_channel}\n"), small_model()),
              testing::ElementsAre("lm_head"));
}

TEST(Recipe, LaterRulesWin) {
  const Recipe recipe = recipe_of(
      "  - {match: '*', weights: int4_group32}\n"
      "  - {match: '*.layers.[0]*', weights: int8_channel, inputs: int8_tensor}\n"
      "  - {match: '*.q_proj', weights: none}\n");
  const auto formats = resolve_rules(recipe, small_model());
  EXPECT_FALSE(formats[6].quantized());
  EXPECT_EQ(formats[7], (LinearFormat{{Element::kInt8, Granularity::kChannel, 0}, InputQuant::Kind::kStaticInt8}));
  EXPECT_EQ(formats[8], (LinearFormat{{Element::kInt4, Granularity::kGroup, 32}, InputQuant::Kind::kNone}));
}

TEST(Recipe, RulesThatMatchNothingAreErrors) {
  const auto modules = small_model();
  EXPECT_THAT(error_of([&] { resolve_rules(recipe_of("  - {match: '*.k_porj', weights: int8_channel}\n"), modules); }),
              HasSubstr("[r.yaml] field 'rules[0].match': '*.k_porj' matches no module"));
  EXPECT_THAT(error_of([&] { resolve_rules(recipe_of("  - {match: '*norm', weights: int8_channel}\n"), modules); }),
              HasSubstr("cannot be quantized"));
}

TEST(Recipe, ATiedHeadIsReachedByItsNameAlone) {
  auto modules = small_model();
  modules.back().tied = true;
  modules.back().stored = "model.embed_tokens";
  for (const char* glob : {"lm_head", "*_head", "lm?head"}) {
    EXPECT_THAT(quantized(recipe_of(fmt::format("  - {{match: '{}', weights: int8_channel}}\n", glob)), modules),
                testing::ElementsAre("lm_head"));
  }
  for (const std::string& name : quantized(recipe_of("  - {match: '*', weights: int8_channel}\n"), modules)) {
    EXPECT_NE(name, "lm_head");
  }
  const Recipe table = recipe_of("  - {match: 'model.embed_tokens', weights: int8_channel}\n");
  EXPECT_THAT(error_of([&] { resolve_rules(table, modules); }),
              HasSubstr("cannot be quantized, such as model.embed_tokens"));
}

TEST(Recipe, ErrorsNameTheSourceAndWhatWasExpected) {
  const std::string rule = "  - {match: '*', weights: int8_channel}\n";
  EXPECT_THAT(error_of([&] { recipe_of("  - {match: '*', weights: int5}\n"); }),
              testing::AllOf(HasSubstr("[r.yaml] field 'rules[0].weights': expected one of none, int8_channel"),
                             HasSubstr("found 'int5'")));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: onnx\n"); }), HasSubstr("found 'onnx'"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: as-is\n"); }), HasSubstr("cannot hold quantized weights"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: modelopt\nkv: fp9\n"); }), HasSubstr("found 'fp9'"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: modelopt\nkv_cache: fp8\n"); }),
              HasSubstr("unknown key 'kv_cache'"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: modelopt\nalgorithm: {name: awq, alpha: 1}\n"); }),
              HasSubstr("only smoothquant"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: modelopt\nalgorithm: {name: smoothquant, alpha: 1.5}\n"); }),
              HasSubstr("field 'algorithm.alpha': expected a number from 0 to 1, found 1.5"));
  EXPECT_THAT(error_of([&] { load_recipe("int7"); }), HasSubstr("int4_awq"));
  EXPECT_THAT(error_of([&] { load_recipe("fp8+kv:int8"); }), HasSubstr("fp8_debiased, int8_calibrated, int8_head"));
  EXPECT_EQ(load_recipe("fp8+kv:int8_head").kv_format, "int8_head");
}

TEST(Recipe, AlgorithmsHaveTheirOwnKeys) {
  const std::string int4 = "  - {match: '*', weights: int4_group32}\n";
  const auto read = [&](const std::string& algorithm, const std::string& layout = "compressed-tensors",
                        const std::string& rules = "  - {match: '*', weights: int4_group32}\n") {
    return recipe_of(rules, "layout: " + layout + "\nalgorithm: " + algorithm + "\n");
  };
  EXPECT_EQ(read("{name: smoothquant, alpha: search}").alpha, std::nullopt);
  EXPECT_EQ(read("smoothquant").alpha, 0.5f);
  const Recipe full = read("{name: awq, method: full}"),
               clip = read("{name: awq, method: clip, mode: modelopt}", "modelopt");
  EXPECT_TRUE(full.smooths() && full.clips() && !full.prescales());
  EXPECT_TRUE(clip.clips() && clip.needs_calibration() && !clip.smooths() && !clip.prescales());
  EXPECT_TRUE(read("{name: awq, mode: modelopt}", "modelopt").prescales());
  const auto refused = [&](const std::string& algorithm, const std::string& layout, const std::string& rules) {
    return error_of([&] { read(algorithm, layout, rules); });
  };
  EXPECT_THAT(refused("{name: smoothquant, alpha: find}", "modelopt", int4),
              HasSubstr("expected one of search, found"));
  EXPECT_THAT(refused("{name: svdquant, method: full}", "modelopt", int4), HasSubstr("'algorithm.method': only awq"));
  EXPECT_THAT(refused("{name: awq, method: half}", "modelopt", int4), HasSubstr("one of lite, clip, full"));
  EXPECT_THAT(refused("{name: awq, mode: modelopt}", "compressed-tensors", int4),
              HasSubstr("needs the layout modelopt"));
  EXPECT_THAT(refused("{name: awq, method: full}", "gguf", int4), HasSubstr("its own search"));
  EXPECT_THAT(refused("{name: awq, method: clip}", "modelopt", "  - {match: '*', weights: nvfp4_block16}\n"),
              HasSubstr("nvfp4_block16 weights with none inputs cannot be clipped"));
  const std::string w4a8 = "  - {match: '*', weights: int4_group128, inputs: e4m3_tensor}\n";
  EXPECT_THAT(refused("{name: awq, method: full, mode: modelopt}", "modelopt", w4a8), HasSubstr("as ModelOpt does"));
}

TEST(Recipe, FourOverSixIsAWordOfNvfp4Rules) {
  const Recipe recipe = recipe_of(
      "  - {match: '*', weights: nvfp4_block16, inputs: nvfp4_block16, four_over_six: true}\n", "layout: modelopt\n");
  EXPECT_TRUE(resolve_rules(recipe, small_model())[6].four_over_six);
  EXPECT_THAT(error_of([&] { recipe_of("  - {match: '*', weights: nvfp4_block32, four_over_six: true}\n"); }),
              HasSubstr("field 'rules[0].four_over_six': only nvfp4_block16"));
}

TEST(Recipe, EveryShippedRecipeReadsAndFitsItsLayout) {
  const auto modules = small_model();
  for (const std::string& name : shipped_recipes()) {
    const Recipe recipe = load_recipe(name);
    EXPECT_EQ(configuration_name(recipe), name);
    EXPECT_EQ(recipe.kv_format, "bf16");
    const auto formats = resolve_rules(recipe, modules);
    EXPECT_EQ(why_not({256, 256}, formats[6], recipe.layout), std::nullopt) << name;
    EXPECT_FALSE(formats[1].quantized()) << name;
  }
}

TEST(Recipe, TheFilesInTheRepositoryAreTheShippedOnes) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(HALFTONE_SOURCE_DIR "/recipes")) {
    files.push_back(entry.path().stem().string());
    EXPECT_EQ(load_recipe(entry.path().string()).text, load_recipe(files.back()).text);
  }
  EXPECT_THAT(files, testing::UnorderedElementsAreArray(shipped_recipes()));
}

TEST(Recipe, TheIssueTable) {
  const auto format = [](const char* name) { return resolve_rules(load_recipe(name), small_model())[6]; };
  const LinearFormat int8{{Element::kInt8, Granularity::kChannel, 0}, InputQuant::Kind::kStaticInt8};
  EXPECT_FALSE(format("bf16").quantized());
  EXPECT_EQ(format("int8_wo").weights, int8.weights);
  EXPECT_EQ(format("int8_wo").inputs, InputQuant::Kind::kNone);
  EXPECT_EQ(format("int8"), int8);
  EXPECT_EQ(format("int8_sq"), int8);
  EXPECT_EQ(load_recipe("int8_sq").algorithm, Algorithm::kSmoothQuant);
  EXPECT_EQ(load_recipe("int8_sq").alpha, 0.5f);
  EXPECT_EQ(load_recipe("int4_awq").algorithm, Algorithm::kAwq);
  EXPECT_EQ(load_recipe("fp8").layout, Layout::kModelOpt);
  EXPECT_EQ(format("nvfp4").inputs, InputQuant::Kind::kDynamicNvfp4);
  EXPECT_EQ(format("nvfp4_w4a8"),
            (LinearFormat{{Element::kE2M1, Granularity::kGroup, 32}, InputQuant::Kind::kStaticE4M3}));
}

TEST(Recipe, TheCacheIsWrittenAfterTheRecipe) {
  const Recipe recipe = load_recipe("fp8+kv:fp8_calibrated");
  EXPECT_EQ(recipe.name, "fp8");
  EXPECT_EQ(recipe.kv_format, "fp8_calibrated");
  EXPECT_EQ(configuration_name(recipe), "fp8+kv:fp8_calibrated");
  EXPECT_FALSE(load_recipe("int4_wo").needs_calibration());
  EXPECT_TRUE(load_recipe("fp8").needs_calibration());
  EXPECT_TRUE(load_recipe("int4_awq").needs_calibration());
}

TEST(Recipe, SmoothQuantAsModelOptDoesIt) {
  const std::string rule = "  - {match: '*', weights: int8_channel, inputs: int8_tensor}\n";
  const auto recipe = [&](const char* more) {
    return recipe_of(rule, fmt::format("layout: modelopt\nalgorithm: {{name: smoothquant{}}}\n", more));
  };
  EXPECT_TRUE(recipe(", mode: modelopt").prescales());
  EXPECT_EQ(recipe(", mode: modelopt").alpha, 1.0f);
  EXPECT_EQ(recipe(", mode: modelopt, alpha: 0.75").alpha, 0.75f);
  EXPECT_FALSE(recipe("").prescales());
  EXPECT_THAT(error_of([&] { recipe(", mode: modelopt, alpha: search"); }), HasSubstr("algorithm.alpha"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: modelopt\nalgorithm: {name: svdquant, mode: modelopt}\n"); }),
              HasSubstr("only awq and smoothquant have one"));
}

TEST(Recipe, AVisionFormatReachesTheBlocksAndNothingElse) {
  const std::string rule = "  - {match: '*.q_proj', weights: int4_group32}\n";
  const Recipe recipe = recipe_of(rule, "layout: compressed-tensors\nvision: fp8\n");
  EXPECT_THAT(
      quantized(recipe, small_model()),
      testing::ElementsAre("visual.blocks.0.attn.qkv", "visual.blocks.0.mlp.fc1", "model.layers.0.self_attn.q_proj"));
  EXPECT_EQ(resolve_rules(recipe, small_model())[1],
            (LinearFormat{{Element::kE4M3, Granularity::kChannel, 0}, InputQuant::Kind::kDynamicE4M3}));
  EXPECT_EQ(configuration_name(recipe), "r+vision:fp8");
  const Recipe exempt =
      recipe_of(rule + "  - {match: 'visual.*.fc1', weights: none}\n", "layout: compressed-tensors\nvision: int8\n");
  EXPECT_THAT(quantized(exempt, small_model()),
              testing::ElementsAre("visual.blocks.0.attn.qkv", "model.layers.0.self_attn.q_proj"));
  EXPECT_THAT(error_of([&] { recipe_of(rule, "layout: modelopt\nvision: int4\n"); }),
              HasSubstr("field 'vision': expected one of bf16, fp8, int8, found 'int4'"));
}

TEST(Recipe, AVisionFormatIsWrittenBeforeTheCache) {
  const Recipe recipe = load_recipe("fp8+vision:int8+kv:fp8_head");
  EXPECT_EQ(recipe.vision_format, "int8");
  EXPECT_EQ(recipe.kv_format, "fp8_head");
  EXPECT_EQ(configuration_name(recipe), "fp8+vision:int8+kv:fp8_head");
  EXPECT_EQ(recipe_part("fp8+vision:int8+kv:fp8_head"), "fp8");
  EXPECT_EQ(load_recipe("bf16+vision:fp8").layout, Layout::kCompressedTensors);
  EXPECT_EQ(load_recipe("bf16+vision:bf16").layout, Layout::kAsIs);
  EXPECT_FALSE(load_recipe("int8_wo+vision:int8").needs_calibration());
  EXPECT_THAT(error_of([&] { load_recipe("fp8+vision:fp4"); }), HasSubstr("expected one of bf16, fp8, int8"));
}

TEST(Recipe, ShapesThatAFormatCannotTake) {
  const auto int4 = resolve_rules(load_recipe("int4_wo"), small_model())[6];
  EXPECT_THAT(*why_not({10, 200}, int4, Layout::kCompressedTensors), HasSubstr("200 inputs are not a multiple of 128"));
  EXPECT_THAT(*why_not({11, 128}, int4, Layout::kModelOpt), HasSubstr("11 outputs are not a multiple of 2"));
  EXPECT_THAT(*why_not({12, 128}, int4, Layout::kAwq), HasSubstr("12 outputs are not a multiple of 8"));
  LinearFormat asymmetric = int4;
  asymmetric.weights.asymmetric = true;
  EXPECT_EQ(why_not({16, 128}, asymmetric, Layout::kAwq), std::nullopt);
  EXPECT_THAT(*why_not({16, 128}, asymmetric, Layout::kModelOpt), HasSubstr("modelopt has no int4_group128_asym"));
  const LinearFormat mixed{{Element::kInt4, Granularity::kGroup, 128}, InputQuant::Kind::kStaticInt8};
  EXPECT_THAT(*why_not({10, 128}, mixed, Layout::kCompressedTensors),
              HasSubstr("int4_group128 weights with int8_tensor"));
}

}  // namespace
}  // namespace halftone
