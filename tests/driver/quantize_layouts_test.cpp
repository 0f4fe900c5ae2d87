// The demo model in the layouts of AutoAWQ, GPTQ and llama.cpp: written, read back and compared by quantize_folder(), and
// what it refuses.
#include <gmock/gmock.h>
#include <unistd.h>

#include "driver/quantize_folder.h"
#include "quant/inventory.h"
#include "tests/driver/quantize_error.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using ::testing::HasSubstr;

const fs::path kDemo = fs::path(HALFTONE_SOURCE_DIR) / "demo/model";

class QuantizeLayouts : public ::testing::Test {
 protected:
  QuantizeLayouts() : root_(fs::path(::testing::TempDir()) / fmt::format("halftone_layouts_{}", ::getpid())) {
    fs::create_directories(root_);
  }
  ~QuantizeLayouts() override { fs::remove_all(root_); }

  QuantizeJob job(const std::string& recipe, std::optional<Layout> layout = {}) const {
    QuantizeJob job;
    job.checkpoint = kDemo;
    job.configuration = recipe;
    job.out = root_ / "out";
    job.replace = true;
    job.layout = layout;
    return job;
  }

  fs::path root_;
};

TEST_F(QuantizeLayouts, AreReadBackAsTheyWereWritten) {
  const std::pair<const char*, std::optional<Layout>> cases[] = {{"q8_0", {}},
                                                                 {"q4_0", {}},
                                                                 {"q4_k", {}},
                                                                 {"nf4", {}},
                                                                 {"bf16", Layout::kGguf},
                                                                 {"int4_wo", Layout::kGptq},
                                                                 {"int4_wo", Layout::kGptqV2},
                                                                 {"int4_wo", Layout::kAwq},
                                                                 {"int8_wo", Layout::kGptq}};
  for (const auto& [recipe, layout] : cases) {
    const QuantizationReport report = quantize_folder(job(recipe, layout), nullptr, default_stream());
    const Inventory inventory = take_inventory(Checkpoint::open(root_ / "out"));
    EXPECT_EQ(inventory.quantization, report.layout) << recipe;
    EXPECT_LE(report.bytes(), report.bytes_before()) << recipe;
  }
}

TEST_F(QuantizeLayouts, LlamaCppFilesAreWhereItLooks) {
  quantize_folder(job("q8_0"), nullptr, default_stream());
  for (const char* file : {"model.gguf", "mmproj.gguf", "config.json", "tokenizer.json", "quantization_report.json"}) {
    EXPECT_TRUE(fs::exists(root_ / "out" / file)) << file;
  }
  EXPECT_FALSE(fs::exists(root_ / "out/model.safetensors"));
}

TEST_F(QuantizeLayouts, FormatsThatALayoutLacksAreListedByLayer) {
  const std::string error = error_of(job("fp8", Layout::kGguf));
  EXPECT_THAT(error, HasSubstr("56 layers cannot take their format"));
  EXPECT_THAT(error, HasSubstr("model.layers.0.self_attn.q_proj: layout gguf has no e4m3_tensor weights"));
  EXPECT_THAT(error_of(job("bf16", Layout::kAwq)), HasSubstr("recipe bf16 quantizes nothing"));
}

TEST_F(QuantizeLayouts, RequantizingIsRefusedUnlessAskedFor) {
  quantize_folder(job("int4_wo", Layout::kGptq), nullptr, default_stream());
  QuantizeJob again = job("int8_wo");
  again.checkpoint = root_ / "out";
  again.out = root_ / "again";
  EXPECT_THAT(error_of(again), HasSubstr("quantized already (layout gptq)"));
  again.requantize = true;
  const QuantizationReport report = quantize_folder(again, nullptr, default_stream());
  // INT8 holds what INT4 in groups left: the rounding of bf16 and of one scale an output is all that is added
  for (const LayerReport& layer : report.layers) EXPECT_LT(layer.weight_error, 0.02) << layer.module;
}

TEST_F(QuantizeLayouts, ATargetRefusesBeforeAnythingIsWritten) {
  QuantizeJob refused = job("q8_0");
  refused.target = Target::kVllm;
  EXPECT_THAT(error_of(refused), HasSubstr("vLLM, layout"));
  EXPECT_FALSE(fs::exists(refused.out));
  refused.force = true;
  EXPECT_EQ(error_of(refused), "no error");
}

}  // namespace
}  // namespace halftone
