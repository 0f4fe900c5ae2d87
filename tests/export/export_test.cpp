// Every layout, written and read back: quantized modules equal, everything else byte for byte. The source is two layers
// of the demo model; with HALFTONE_KEEP_EXPORTS=DIR it is the whole one, and the folders stay in DIR for
// tests/export/check_folders.py (transformers reads them).
#include "export/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/file.h"
#include "hf/kv_cache_key.h"
#include "tests/export/tiny_quantizer.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::quantize_tiny;

const fs::path kDemo = fs::path(HALFTONE_SOURCE_DIR) / "demo/model";

struct Case {
  std::string name;
  Layout layout;
  QuantSpec weights;
  InputQuant::Kind input;
  DType scales;
};

const Case kCases[] = {
    {"int4_wo",
     Layout::kCompressedTensors,
     {Element::kInt4, Granularity::kGroup, 128},
     InputQuant::Kind::kNone,
     DType::kBF16},
    {"int8_wo",
     Layout::kCompressedTensors,
     {Element::kInt8, Granularity::kChannel, 0},
     InputQuant::Kind::kNone,
     DType::kBF16},
    {"int8",
     Layout::kCompressedTensors,
     {Element::kInt8, Granularity::kChannel, 0},
     InputQuant::Kind::kStaticInt8,
     DType::kBF16},
    {"fp8_ct",
     Layout::kCompressedTensors,
     {Element::kE4M3, Granularity::kTensor, 0},
     InputQuant::Kind::kStaticE4M3,
     DType::kBF16},
    {"fp8", Layout::kModelOpt, {Element::kE4M3, Granularity::kTensor, 0}, InputQuant::Kind::kStaticE4M3, DType::kF32},
    {"nvfp4",
     Layout::kModelOpt,
     {Element::kE2M1, Granularity::kGroup, 16},
     InputQuant::Kind::kDynamicNvfp4,
     DType::kF8E4M3},
    {"nvfp4_w4a8",
     Layout::kModelOpt,
     {Element::kE2M1, Granularity::kGroup, 32},
     InputQuant::Kind::kStaticE4M3,
     DType::kF8E4M3},
    {"int8_modelopt",
     Layout::kModelOpt,
     {Element::kInt8, Granularity::kChannel, 0},
     InputQuant::Kind::kStaticInt8,
     DType::kF32},
};

std::vector<std::string> decoder_linears(const Checkpoint& source) {
  std::vector<std::string> names;
  for (const auto& [name, info] : source.tensors()) {
    if (name.starts_with("model.layers.") && name.ends_with("_proj.weight"))
      names.push_back(name.substr(0, name.size() - 7));
  }
  return names;
}

ExportModule make_module(const Checkpoint& source, const std::string& name, const Case& c) {
  ExportModule module;
  module.weight = quantize_tiny(source.tensor(name + ".weight"), c.weights, c.scales);
  if (c.input != InputQuant::Kind::kNone) module.input = {c.input, 0.15625f};
  return module;
}

void expect_same_bytes(const Tensor& a, const Tensor& b, const std::string& name) {
  ASSERT_EQ(a.dtype(), b.dtype()) << name;
  ASSERT_EQ(a.shape(), b.shape()) << name;
  ASSERT_EQ(std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.nbytes())), 0) << name;
}

void expect_equal(const LinearParts& found, const ExportModule& wanted, const std::string& name) {
  EXPECT_EQ(found.weight.spec, wanted.weight.spec) << name;
  EXPECT_EQ(found.weight.global_scale, wanted.weight.global_scale) << name;
  EXPECT_EQ(found.input, wanted.input) << name;
  expect_same_bytes(found.weight.payload, wanted.weight.payload, name);
  expect_same_bytes(found.weight.scales, wanted.weight.scales, name);
}

// Two layers, the final norm and one block of the vision tower, with the demo's other files.
void write_small_source(const fs::path& folder) {
  const Checkpoint demo = Checkpoint::open(kDemo);
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(kDemo)) {
    if (entry.path().extension() != ".safetensors") fs::copy_file(entry.path(), folder / entry.path().filename());
  }
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, info] : demo.tensors()) {
    for (const char* prefix : {"model.layers.0.", "model.layers.1.", "model.norm.", "visual.blocks.1."}) {
      if (name.starts_with(prefix)) tensors.push_back(tensor_to_write(name, demo.tensor(name)));
    }
  }
  write_safetensors(folder, tensors);
}

class Export : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* keep = std::getenv("HALFTONE_KEEP_EXPORTS");
    keep_ = keep != nullptr;
    root_ = keep ? fs::path(keep) : fs::path(testing::TempDir()) / ("halftone_export_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    source_ = keep ? kDemo : root_ / "source";
    if (!keep) write_small_source(source_);
  }
  static void TearDownTestSuite() {
    if (!keep_) fs::remove_all(root_);
  }

  static ExportPlan make_plan(const Case& c) {
    ExportPlan plan;
    plan.source = Checkpoint::open(source_);
    plan.layout = c.layout;
    plan.recipe = c.name;
    for (const std::string& name : decoder_linears(plan.source)) plan.modules[name] = make_module(plan.source, name, c);
    return plan;
  }

  static std::int64_t layers() { return keep_ ? 8 : 2; }

  static KvQuantization make_kv(const std::string& format) {
    KvQuantization kv;
    kv.format = format;
    for (std::int64_t layer = 0; layer < layers(); ++layer) {
      const float s = 0.01f * static_cast<float>(layer + 1);
      kv.layers.push_back(format == "fp8"              ? KvScales{}
                          : kv_has_head_scales(format) ? KvScales{{s, 2 * s}, {3 * s, 4 * s}}
                                                       : KvScales{{s}, {3 * s}});
    }
    return kv;
  }

  Checkpoint write(const ExportPlan& plan, const std::string& name, ExportOptions options = {}) {
    options.replace = true;
    export_checkpoint(plan, root_ / name, options);
    return Checkpoint::open(root_ / name);
  }

  // The message of the Error that writing throws.
  std::string refusal(const ExportPlan& plan) {
    try {
      export_checkpoint(plan, root_ / "refused");
    } catch (const Error& e) {
      EXPECT_FALSE(fs::exists(root_ / "refused"));
      return e.what();
    }
    return "";
  }

  inline static fs::path root_, source_;
  inline static bool keep_ = false;
};

class ExportLayout : public Export, public testing::WithParamInterface<Case> {};

TEST_P(ExportLayout, IsReadBackEqual) {
  const ExportPlan plan = make_plan(GetParam());
  const Checkpoint written = write(plan, GetParam().name);
  for (const auto& [name, module] : plan.modules) {
    const LinearParts parts = load_linear(written, name);
    expect_equal(parts, module, name);
    EXPECT_EQ(parts.bias.defined(), plan.source.contains(name + ".bias"));
  }
  for (const auto& [name, info] : plan.source.tensors()) {
    if (plan.modules.contains(name.substr(0, name.rfind('.')))) continue;
    expect_same_bytes(written.tensor(name), plan.source.tensor(name), name);
  }
  EXPECT_EQ(load_linear(written, "visual.blocks.1.attn.qkv").weight.spec.element, Element::kBF16);
  for (const char* file : {"tokenizer.json", "merges.txt", "preprocessor_config.json", "generation_config.json"}) {
    EXPECT_EQ(read_file(root_ / GetParam().name / file), read_file(kDemo / file)) << file;
  }
}

TEST_P(ExportLayout, KeepsTheOrderOfTheConfiguration) {
  const ExportPlan plan = make_plan(GetParam());
  const Checkpoint written = write(plan, GetParam().name);
  auto it = written.config().begin();
  for (const auto& [key, value] : plan.source.config().items()) {
    ASSERT_EQ(it.key(), key);
    ASSERT_EQ(it.value(), value);
    ++it;
  }
  EXPECT_EQ(it.key(), "quantization_config");
}

INSTANTIATE_TEST_SUITE_P(Layouts, ExportLayout, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST_F(Export, WritesShardsThatReadBack) {
  const ExportPlan plan = make_plan(kCases[0]);
  const Checkpoint written = write(plan, "sharded", {.max_shard_bytes = 1 << 20});
  EXPECT_FALSE(fs::exists(root_ / "sharded/model.safetensors"));
  EXPECT_TRUE(fs::exists(root_ / "sharded/model.safetensors.index.json"));
  for (const auto& [name, module] : plan.modules) expect_equal(load_linear(written, name), module, name);
}

TEST_F(Export, MixedFormatsKeepTheirModules) {
  for (const Layout layout : {Layout::kCompressedTensors, Layout::kModelOpt}) {
    const std::size_t first = layout == Layout::kModelOpt ? 4 : 0;
    ExportPlan plan = make_plan(kCases[first]);
    for (auto& [name, module] : plan.modules) {
      if (name.find(".mlp.") != std::string::npos) module = make_module(plan.source, name, kCases[first + 1]);
    }
    plan.modules.erase("model.layers.1.mlp.up_proj");
    const std::string vision = "visual.blocks.1.mlp.fc1";
    plan.modules[vision] = make_module(plan.source, vision, kCases[first]);
    const Checkpoint written = write(plan, "mixed");
    for (const auto& [name, module] : plan.modules) expect_equal(load_linear(written, name), module, name);
    EXPECT_EQ(load_linear(written, "model.layers.1.mlp.up_proj").weight.spec.element, Element::kBF16);
    EXPECT_EQ(load_linear(written, "visual.blocks.1.mlp.fc2").weight.spec.element, Element::kBF16);
  }
}

TEST_F(Export, ReplacesPlainTensorsAndBiases) {
  ExportPlan plan = make_plan(kCases[1]);
  const std::string norm = "model.layers.0.input_layernorm.weight", projection = "model.layers.0.self_attn.q_proj";
  plan.tensors[norm] = from_f32(Tensor::from(std::vector<float>(256, 0.5f), {256}), DType::kBF16);
  plan.modules[projection].bias = from_f32(Tensor::from(std::vector<float>(256, 2.0f), {256}), DType::kBF16);
  const Checkpoint written = write(plan, "replaced");
  expect_same_bytes(written.tensor(norm), plan.tensors[norm], norm);
  expect_same_bytes(load_linear(written, projection).bias, plan.modules[projection].bias, projection);
}

TEST_F(Export, KeepsEveryKvFormatInEveryLayout) {
  for (const std::size_t c : {std::size_t{1}, std::size_t{4}}) {
    ExportPlan plan = make_plan(kCases[c]);
    for (const std::string_view format : kKvFormats) {
      if (format != "bf16") plan.kv = make_kv(std::string(format));
      const Checkpoint written = write(plan, fmt::format("{}_kv_{}", kCases[c].name, format));
      const KvQuantization found = load_kv_quantization(written, layers());
      EXPECT_EQ(found.format, format);
      if (found.format == "bf16") continue;
      for (std::size_t i = 0; i < found.layers.size(); ++i) {
        EXPECT_EQ(found.layers[i].k, plan.kv.layers[i].k) << kCases[c].name << " " << format << " layer " << i;
        EXPECT_EQ(found.layers[i].v, plan.kv.layers[i].v);
      }
    }
  }
}

TEST_F(Export, WritesAScaleForEachLayerOfAnFp8Cache) {
  ExportPlan plan = make_plan(kCases[1]);
  plan.kv.format = "fp8";
  const Checkpoint written = write(plan, "int8_wo_kv_unit");
  EXPECT_EQ(to_f32(written.tensor("model.layers.1.self_attn.k_scale")).data<float>()[0], 1.0f);
  EXPECT_EQ(load_kv_quantization(written, layers()).format, "fp8");
}

TEST_F(Export, WritesAnInt8CacheUnderOurOwnKeyAlone) {
  for (const std::size_t c : {std::size_t{1}, std::size_t{4}}) {
    ExportPlan plan = make_plan(kCases[c]);
    plan.kv = make_kv("int8_head");
    const Checkpoint written = write(plan, kCases[c].name + "_kv_int8");
    EXPECT_EQ(written.quantization().kv(), KvScheme::kNone);
    EXPECT_EQ(written.config()["halftone_kv_cache"]["format"], "int8_head");
    EXPECT_FALSE(written.contains("model.layers.0.self_attn.k_scale"));
    EXPECT_FALSE(written.contains("model.layers.0.self_attn.k_proj.k_scale"));
  }
}

TEST_F(Export, KeepsTheKvFormatOfAnUnquantizedModel) {
  ExportPlan plan;
  plan.source = Checkpoint::open(source_);
  plan.kv = make_kv("fp8_calibrated");
  const Checkpoint written = write(plan, "bf16_kv");
  EXPECT_FALSE(written.config().contains("quantization_config"));
  EXPECT_EQ(load_kv_quantization(written, layers()).layers.back().k, plan.kv.layers.back().k);
  EXPECT_EQ(written.content_hash(), plan.source.content_hash());
}

TEST_F(Export, TakesTheCacheOfThePlanNotOfTheSource) {
  ExportPlan with_cache;
  with_cache.source = Checkpoint::open(source_);
  with_cache.kv = make_kv("int8_head");
  const Checkpoint source = write(with_cache, "bf16_kv_int8");
  ExportPlan plan = make_plan(kCases[1]);
  plan.source = source;
  for (const char* format : {"bf16", "fp8_head"}) {
    plan.kv = format == std::string("bf16") ? KvQuantization{} : make_kv(format);
    const Checkpoint written = write(plan, fmt::format("other_kv_{}", format));
    EXPECT_EQ(load_kv_quantization(written, layers()).format, format);
  }
}

TEST_F(Export, RefusesWhatItCannotStore) {
  const std::string name = "model.layers.0.mlp.up_proj";
  ExportPlan plan = make_plan(kCases[2]);
  plan.layout = Layout::kModelOpt;
  plan.modules[name].input.kind = InputQuant::Kind::kDynamicInt8;
  EXPECT_THAT(refusal(plan), HasSubstr("one of FP8, FP8_PER_CHANNEL_PER_TOKEN"));
  plan.layout = Layout::kAsIs;
  EXPECT_THAT(refusal(plan), HasSubstr("expected a layout"));

  plan = make_plan(kCases[5]);
  plan.layout = Layout::kCompressedTensors;
  EXPECT_THAT(refusal(plan), HasSubstr("expected int4, int8, e4m3, nvfp4, mxfp4, mxfp6"));

  plan = make_plan(kCases[2]);
  plan.modules[name].input.scale = 0.1f;
  EXPECT_THAT(refusal(plan), HasSubstr("up_proj.input_scale': expected scales that BF16 holds exactly"));
  plan.modules[name].input.scale = NAN;
  EXPECT_THAT(refusal(plan), HasSubstr("finite"));

  plan = make_plan(kCases[1]);
  plan.modules["model.layers.8.mlp.up_proj"] = plan.modules[name];
  EXPECT_THAT(refusal(plan), HasSubstr("expected in the source"));
  plan.modules.erase("model.layers.8.mlp.up_proj");
  plan.modules["model.layers.0.mlp.down_proj"] = plan.modules[name];
  EXPECT_THAT(refusal(plan), HasSubstr("expected shape [256, 768]"));

  plan = make_plan(kCases[1]);
  plan.kv.format = "fp8_calibrated";
  EXPECT_THAT(refusal(plan), HasSubstr("KV format fp8_calibrated: expected scales of"));
  plan.kv.format = "fp9";
  EXPECT_THAT(refusal(plan), HasSubstr("expected a KV format, got 'fp9'"));

  plan = make_plan(kCases[1]);
  plan.source = write(plan, "once");
  EXPECT_THAT(refusal(plan), HasSubstr("quantized already"));
}

}  // namespace
}  // namespace halftone
