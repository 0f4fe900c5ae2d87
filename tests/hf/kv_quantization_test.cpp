// Scales of the KV cache: each layout, our own key, and what is wrong with them. Round trips are in tests/export.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/hf/quantized_folder.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using testing_support::filled;

class KvQuantizationTest : public testing_support::QuantizedFolder {
 protected:
  KvQuantizationTest() { tensors_["model.norm.weight"] = filled(DType::kBF16, {4}); }
  std::string error() {
    return error_of([](const Checkpoint& c) { load_kv_quantization(c, 2); });
  }
  void modelopt(const char* prefix) {
    modelopt_ = {{"quantization", {{"quant_algo", nullptr}, {"kv_cache_quant_algo", "FP8"}}}};
    for (const char* layer : {"0", "1"}) {
      tensors_[std::string(prefix) + layer + ".self_attn.k_proj.k_scale"] = filled(DType::kF32, {}, 0.5f);
      tensors_[std::string(prefix) + layer + ".self_attn.v_proj.v_scale"] = filled(DType::kF32, {}, 0.25f);
    }
  }
};

TEST_F(KvQuantizationTest, SaysBf16WhenTheFolderSaysNothing) {
  EXPECT_EQ(load_kv_quantization(open(), 2).format, "bf16");
}

TEST_F(KvQuantizationTest, ReadsModelOptScalesUnderOldAndNewNames) {
  for (const char* prefix : {"model.layers.", "model.language_model.layers."}) {
    tensors_.clear();
    modelopt(prefix);
    const KvQuantization kv = load_kv_quantization(open(), 2);
    EXPECT_EQ(kv.format, "fp8_calibrated");
    EXPECT_EQ(kv.layers.at(1).k, std::vector{0.5f});
    EXPECT_EQ(kv.layers.at(1).v, std::vector{0.25f});
  }
}

TEST_F(KvQuantizationTest, NoScalesMeanOne) {
  config_["quantization_config"] = {{"quant_method", "modelopt"},
                                    {"quant_algo", nullptr},
                                    {"kv_cache_scheme", {{"dynamic", false}, {"num_bits", 8}, {"type", "float"}}}};
  const KvQuantization kv = load_kv_quantization(open(), 2);
  EXPECT_EQ(kv.format, "fp8");
  EXPECT_EQ(kv.layers.size(), 2u);
}

TEST_F(KvQuantizationTest, NamesWhatIsWrong) {
  modelopt("model.layers.");
  tensors_["model.layers.1.self_attn.k_proj.k_scale"] = filled(DType::kF32, {}, -0.5f);
  EXPECT_THAT(error(), HasSubstr("k_scale': expected finite scales above 0, found -0.5"));
  tensors_.erase("model.layers.1.self_attn.k_proj.k_scale");
  EXPECT_THAT(error(), HasSubstr("layer 1: expected scales of both keys and values"));
  tensors_.erase("model.layers.1.self_attn.v_proj.v_scale");
  EXPECT_THAT(error(), HasSubstr("for all 2 layers, found 1"));
  modelopt_["quantization"]["kv_cache_quant_algo"] = "NVFP4";
  EXPECT_THAT(error(), HasSubstr("expected FP8 or null, found 'NVFP4'"));
}

TEST_F(KvQuantizationTest, ReadsOurOwnKeyBeforeTheLayouts) {
  modelopt("model.layers.");
  config_["halftone_kv_cache"] = {{"format", "fp8_debiased"}, {"k_scales", {{0.5}, {0.75}}}, {"v_scales", {{1}, {2}}}};
  const KvQuantization kv = load_kv_quantization(open(), 2);
  EXPECT_EQ(kv.format, "fp8_debiased");
  EXPECT_EQ(kv.layers.at(1).k, std::vector{0.75f});
  EXPECT_EQ(kv.layers.at(0).v, std::vector{1.0f});
  tensors_.erase("model.layers.1.self_attn.v_proj.v_scale");
  EXPECT_THAT(error(), HasSubstr("layer 1: expected scales of both keys and values"));
}

TEST_F(KvQuantizationTest, ChecksOurOwnKey) {
  auto& own = config_["halftone_kv_cache"];
  own = {{"format", "int2"}};
  EXPECT_THAT(error(), HasSubstr("field 'format': expected bf16, fp8, fp8_calibrated, fp8_head, fp8_debiased, "
                                 "int8_calibrated, int8_head, found 'int2'"));
  own = {{"format", "int8_head"}};
  EXPECT_THAT(error(), HasSubstr("expected scales for format int8_head, found none"));
  own = {{"format", "fp8_head"}};
  EXPECT_THAT(error(), HasSubstr("expected scales for format fp8_head, found none"));
  own = {{"format", "fp8_head"}, {"k_scales", OrderedJson::array({OrderedJson::array({1})})}};
  EXPECT_THAT(error(), HasSubstr("expected a list for each of 2 layers, found 1"));
  own["k_scales"] = {{1, "a"}, {1, 1}};
  EXPECT_THAT(error(), HasSubstr("field 'k_scales': expected numbers, found \"a\""));
  own["k_scales"] = {{1, 0}, {1, 1}};
  EXPECT_THAT(error(), HasSubstr("expected finite scales above 0, found 0"));
  own = 5;
  EXPECT_THAT(error(), HasSubstr("halftone_kv_cache"));
  EXPECT_THAT(error_of([](const Checkpoint& c) { load_kv_quantization(c, 1'000'000'000); }),
              HasSubstr("expected 1 to 10000 layers"));
}

}  // namespace
}  // namespace halftone
