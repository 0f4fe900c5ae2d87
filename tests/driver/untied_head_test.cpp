// Recipes that quantize the head of a model whose head is its embedding table: the folder has both, the table as it was.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/file.h"
#include "driver/quantize_folder.h"
#include "hf/safetensors_writer.h"
#include "model/model.h"
#include "quant/inventory.h"
#include "tests/base/temporary_folder.h"
#include "tests/driver/quantize_error.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TemporaryFolder;

const fs::path kSource = HALFTONE_SOURCE_DIR, kDemo = kSource / "demo/model", kGolden = kSource / "tests/golden";

// A checkpoint of the other one's tensors and configuration, said to be tied.
void write_tied(const Checkpoint& from, const fs::path& folder, std::string_view left_out, bool in_text_config) {
  fs::create_directories(folder);
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, info] : from.tensors()) {
    if (name != left_out) tensors.push_back(tensor_to_write(name, from.tensor(name)));
  }
  write_safetensors(folder, tensors);
  OrderedJson config = from.config();
  config["tie_word_embeddings"] = !in_text_config;
  if (in_text_config) config["text_config"]["tie_word_embeddings"] = true;
  write_file_atomically(folder / "config.json", config.dump());
}

class UntiedHead : public ::testing::Test {
 protected:
  fs::path write_recipe(const std::string& rules, const std::string& head = "layout: compressed-tensors") const {
    const fs::path path = root_ / "recipe.yaml";
    write_file_atomically(path, head + "\nrules:\n" + rules);
    return path;
  }
  QuantizeJob job(const fs::path& source, const fs::path& recipe) const {
    QuantizeJob job;
    job.checkpoint = source;
    job.configuration = recipe.string();
    job.out = root_ / "out";
    job.replace = true;
    return job;
  }
  QuantizationReport run(const fs::path& source, const std::string& rules,
                         const std::string& head = "layout: compressed-tensors") const {
    return quantize_folder(job(source, write_recipe(rules, head)), nullptr, default_stream());
  }
  Checkpoint written() const { return Checkpoint::open(root_ / "out"); }

  TemporaryFolder root_;
};

const LayerReport& head_of(const QuantizationReport& report) {
  for (const LayerReport& layer : report.layers) {
    if (layer.module == "lm_head") return layer;
  }
  fail("test", "expected a layer lm_head in the report, found none");
}

std::vector<float> logits_of(const Model& model) {
  const std::vector<std::int32_t> tokens{0, 3, 20, 21, 30, 31};
  Workspace workspace;
  const RunContext run{default_stream(), workspace};
  const DecoderConfig& config = model.config().decoder;
  PlainKvCache cache(config.layers, config.kv_heads, config.head_dim);
  const Positions positions = mrope_positions(tokens, model.config().picture_token, {}, 2);
  const SequenceSlice slice{&cache, positions.values};
  Tensor hidden = model.embed(tokens);
  model.forward({&slice, 1}, hidden, run);
  const Tensor logits = model.logits(hidden, run);
  return {logits.data<float>(), logits.data<float>() + logits.numel()};
}

// Half a step, and half a step more: the tool divides in the checkpoint's dtype.
void expect_rounded(const QTensor& weight, const Tensor& table) {
  const Tensor found = dequantize(weight), wanted = to_f32(table);
  ASSERT_EQ(found.shape(), wanted.shape());
  for (std::int64_t i = 0; i < found.numel(); ++i) {
    const float step = scale_at(weight, i / found.dim(1), i % found.dim(1));
    ASSERT_LE(std::fabs(found.data<float>()[i] - wanted.data<float>()[i]), step) << i;
  }
}

struct Stored {
  const char* name;
  const char* folder;    // below tests/golden
  const char* left_out;  // of its tensors
  bool in_text_config;   // where the configuration ties the head
  const char* table;     // the tensor that the head is made from
  const char* embedding;
};

constexpr Stored kStored[] = {
    {"Embedding", "tiny_tied_f32", "", false, "model.embed_tokens.weight", "model.embed_tokens.weight"},
    {"Head", "tiny_mha_bf16", "", false, "lm_head.weight", "model.embed_tokens.weight"},
    {"Both", "tiny_untied_f16", "", false, "lm_head.weight", "model.language_model.embed_tokens.weight"},
    {"ResavedEmbedding", "tiny_untied_f16", "lm_head.weight", true, "model.language_model.embed_tokens.weight",
     "model.language_model.embed_tokens.weight"},
    {"ResavedHead", "tiny_untied_f16", "model.language_model.embed_tokens.weight", true, "lm_head.weight",
     "model.language_model.embed_tokens.weight"},
};

class UntiedHeadOf : public UntiedHead, public ::testing::WithParamInterface<Stored> {};

TEST_P(UntiedHeadOf, RunsAsTheSourceWithARoundedHead) {
  const Stored& stored = GetParam();
  const fs::path folder = root_ / "source";
  write_tied(Checkpoint::open(kGolden / stored.folder), folder, stored.left_out, stored.in_text_config);
  const Checkpoint source = Checkpoint::open(folder);
  const QuantizationReport report = run(folder, "  - {match: lm_head, weights: int8_channel}\n");
  const Checkpoint result = written();
  const Model model = Model::load(result, {Numerics::kF32, false}, default_stream());
  const LinearParts head = model.linear_parts("lm_head");
  EXPECT_EQ(head.weight.spec.element, Element::kInt8);
  expect_rounded(head.weight, source.tensor(stored.table));
  EXPECT_GT(head_of(report).weight_error, 0);

  Model expected = Model::load(source, {Numerics::kF32, false}, default_stream());
  const std::vector<float> before = logits_of(expected);
  expected.replace_linear("lm_head", head, default_stream());
  EXPECT_EQ(logits_of(model), logits_of(expected));
  EXPECT_NE(logits_of(model), before);

  // the table under the embedding's name, and nothing else but the head is new
  const bool both = source.contains("lm_head.weight") && source.contains(stored.embedding);
  const Tensor kept = result.tensor(stored.embedding), table = source.tensor(both ? stored.embedding : stored.table);
  EXPECT_EQ(std::memcmp(kept.raw(), table.raw(), static_cast<std::size_t>(table.nbytes())), 0);
  EXPECT_FALSE(result.config()["tie_word_embeddings"].get<bool>());
  if (stored.in_text_config) {
    EXPECT_FALSE(result.config()["text_config"]["tie_word_embeddings"].get<bool>());
  }
  EXPECT_EQ(head_of(report).bytes_before, both ? table.nbytes() : 0);
  EXPECT_EQ(report.source_hash, source.content_hash());
  std::int64_t bytes = 0;
  for (const auto& [name, info] : source.tensors()) bytes += info.nbytes;
  EXPECT_EQ(report.input_bytes, bytes);
}

INSTANTIATE_TEST_SUITE_P(Stored, UntiedHeadOf, ::testing::ValuesIn(kStored),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(UntiedHead, EveryLayoutSaysSoInItsOwnWords) {
  const auto config_of = [&](const std::string& layout, const std::string& format) {
    run(kDemo, "  - {match: 'lm_*', weights: " + format + "}\n", "layout: " + layout);
    EXPECT_EQ(take_inventory(written()).layer_formats.size(), 2u) << layout;  // the head's, and the others' bf16
    EXPECT_FALSE(written().config()["tie_word_embeddings"].get<bool>()) << layout;
    EXPECT_TRUE(written().contains("model.embed_tokens.weight")) << layout;
    return written().config().value("quantization_config", OrderedJson());
  };
  const auto list = [](const OrderedJson& names) { return names.get<std::vector<std::string>>(); };
  // vLLM and SGLang look for a target that names the head
  const OrderedJson packed = config_of("compressed-tensors", "int8_channel");
  EXPECT_EQ(list(packed["config_groups"]["group_0"]["targets"]), (std::vector<std::string>{"re:.*lm_head$", "Linear"}));
  EXPECT_THAT(list(packed["ignore"]), Not(Contains("lm_head")));
  EXPECT_THAT(list(config_of("modelopt", "int8_channel")["ignore"]), Not(Contains(HasSubstr("lm_head"))));
  EXPECT_TRUE(config_of("gptq", "int8_channel")["lm_head"].get<bool>());
  EXPECT_TRUE(config_of("gptq_v2", "int4_group128")["lm_head"].get<bool>());
  const OrderedJson awq = config_of("awq", "int4_group128");
  EXPECT_TRUE(awq["lm_head"].get<bool>());
  EXPECT_THAT(list(awq["modules_to_not_convert"]), Not(Contains("lm_head")));
  EXPECT_THAT(list(config_of("bitsandbytes", "nf4_block64")["llm_int8_skip_modules"]), Not(Contains("lm_head")));
  EXPECT_TRUE(config_of("gguf", "int8_group32").is_null());
}

TEST_F(UntiedHead, StandsBesideLayersOfAnotherFormat) {
  const QuantizationReport report = run(kDemo,
                                        "  - {match: '*', weights: int4_group128}\n"
                                        "  - {match: lm_head, weights: int8_channel}\n");
  const Inventory inventory = take_inventory(written());
  EXPECT_THAT(inventory.layer_formats, Contains(::testing::Pair("int4 group 128", 56)));
  EXPECT_THAT(inventory.layer_formats, Contains(::testing::Pair("int8 per channel", 1)));
  const auto targets = written().config()["quantization_config"]["config_groups"]["group_1"]["targets"];
  EXPECT_EQ(written().config()["quantization_config"]["config_groups"]["group_0"]["targets"].size() + targets.size(),
            57u);
  std::int64_t head_bytes = 0;
  for (const FormatCost& cost : take_inventory(Checkpoint::open(kDemo)).formats) {
    if (cost.weights == "int8_channel" && cost.inputs == "none") head_bytes = cost.head_bytes.value();
  }
  EXPECT_EQ(head_bytes, 4096 * 256 + 4096 * 2);
  EXPECT_EQ(head_of(report).bytes, head_bytes);
}

TEST_F(UntiedHead, StaysTiedUnlessItIsQuantized) {
  for (const char* rules : {"  - {match: '*', weights: int8_channel}\n",
                            "  - {match: '*', weights: int8_channel}\n  - {match: lm_head, weights: none}\n",
                            "  - {match: '*', weights: int8_channel}\n  - {match: lm_head, weights: int8_channel}\n"
                            "  - {match: lm_head, weights: none}\n"}) {
    run(kDemo, rules);
    EXPECT_TRUE(written().config()["tie_word_embeddings"].get<bool>()) << rules;
    EXPECT_FALSE(written().contains("lm_head.weight_packed")) << rules;
    EXPECT_THAT(written().config()["quantization_config"]["ignore"].get<std::vector<std::string>>(),
                Contains("lm_head"));
  }
}

TEST_F(UntiedHead, IsCalibrated) {
  QuantizeJob calibrated =
      job(kDemo, write_recipe("  - {match: lm_head, weights: e4m3_tensor, inputs: e4m3_tensor}\n", "layout: modelopt"));
  calibrated.calibration = kSource / "demo/suite/captions";
  calibrated.data.count = 1;
  calibrated.run.max_tokens = 96;
  calibrated.run.sample_rows = 8;
  const LayerReport head = head_of(quantize_folder(calibrated, nullptr, default_stream()));
  ASSERT_TRUE(head.input && head.input_scale && head.output_error);
  EXPECT_GT(*head.output_error, 0);
  EXPECT_EQ(load_linear(written(), "lm_head").input.scale, *head.input_scale);
}

TEST_F(UntiedHead, OfAQuantizedCheckpoint) {
  run(kDemo, "  - {match: '*', weights: int8_channel}\n");
  fs::rename(root_ / "out", root_ / "tied");
  QuantizeJob again = job(root_ / "tied", write_recipe("  - {match: lm_head, weights: int4_group32}\n"));
  EXPECT_THAT(error_of(again), HasSubstr("quantized already"));
  again.requantize = true;
  EXPECT_EQ(error_of(again), "no error");
  EXPECT_EQ(load_linear(written(), "lm_head").weight.spec.element, Element::kInt4);
  // and back: what has a head of its own keeps it
  fs::rename(root_ / "out", root_ / "untied");
  QuantizeJob other = job(root_ / "untied", write_recipe("  - {match: '*', weights: int8_channel}\n"));
  other.requantize = true;
  EXPECT_EQ(error_of(other), "no error");
  EXPECT_FALSE(written().config()["tie_word_embeddings"].get<bool>());
  EXPECT_EQ(load_linear(written(), "lm_head").weight.spec.granularity, Granularity::kNone);
}

}  // namespace
}  // namespace halftone
