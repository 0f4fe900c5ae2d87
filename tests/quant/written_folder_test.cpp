// What is quantized, written and loaded again is what was quantized, for each layout.

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>

#include "export/export.h"
#include "model/model.h"
#include "quant/quantize.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

class WrittenFolder : public testing::TestWithParam<const char*> {
 protected:
  WrittenFolder()
      : folder_(fs::path(testing::TempDir()) / fmt::format("halftone_written_{}_{}", GetParam(), ::getpid())) {}
  ~WrittenFolder() override { fs::remove_all(folder_); }
  fs::path folder_;
};

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.numel() == b.numel() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.nbytes())) == 0;
}

// One short sample: the values only have to be there.
const Calibration& demo_calibration() {
  static const Calibration calibration = [] {
    CalibrationOptions data;
    data.count = 1;
    CalibrateOptions options;
    options.max_tokens = 96;
    options.sample_rows = 8;
    return calibrate(Checkpoint::open(HALFTONE_SOURCE_DIR "/demo/model"),
                     read_calibration(HALFTONE_SOURCE_DIR "/demo/suite/captions/calibration.json", data), options,
                     default_stream());
  }();
  return calibration;
}

TEST_P(WrittenFolder, LoadsAsTheModelThatWasQuantized) {
  const Checkpoint source = Checkpoint::open(HALFTONE_SOURCE_DIR "/demo/model");
  const Recipe recipe = load_recipe(GetParam());
  const Calibration& calibration = demo_calibration();
  const QuantizedCheckpoint quantized = quantize(source, recipe, &calibration, default_stream());
  const ExportPlan plan{
      source, recipe.layout, quantized.modules, quantized.tensors, quantized.kv, configuration_name(recipe)};
  export_checkpoint(plan, folder_);

  const Checkpoint written = Checkpoint::open(folder_);
  const Model model = Model::load(written, {Numerics::kF32, false}, default_stream());
  for (const auto& [module, parts] : quantized.modules) {
    SCOPED_TRACE(module);
    const LinearParts loaded = model.linear_parts(module);
    EXPECT_EQ(loaded.weight.spec, parts.weight.spec);
    EXPECT_EQ(loaded.weight.global_scale, parts.weight.global_scale);
    EXPECT_EQ(loaded.input, parts.input);
    EXPECT_TRUE(same_bytes(loaded.weight.payload, parts.weight.payload));
    EXPECT_TRUE(same_bytes(loaded.weight.scales, parts.weight.scales));
    if (parts.bias.defined()) {
      EXPECT_TRUE(same_bytes(loaded.bias, to_f32(parts.bias)));
    }
  }
  // the head is the embedding table, and stays
  EXPECT_EQ(model.linear_parts("lm_head").weight.spec.element, Element::kBF16);
  for (const auto& [name, tensor] : quantized.tensors) EXPECT_TRUE(same_bytes(written.tensor(name), tensor)) << name;
  const KvQuantization kv = load_kv_quantization(written, 8);
  EXPECT_EQ(kv.format, recipe.kv_format);
  for (std::size_t i = 0; i < quantized.kv.layers.size(); ++i) {
    EXPECT_EQ(kv.layers[i].k, quantized.kv.layers[i].k) << i;
    EXPECT_EQ(kv.layers[i].v, quantized.kv.layers[i].v) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Configurations, WrittenFolder,
                         testing::Values("bf16+kv:fp8_debiased", "bf16+kv:int8_head", "int8_wo", "int4_wo",
                                         "int8_sq+kv:fp8_head", "fp8+kv:fp8_calibrated", "nvfp4+kv:fp8", "nvfp4_w4a8"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace halftone
