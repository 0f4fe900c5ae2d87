// Modules of AutoAWQ and GPTQ, packed by tests/golden/make_words_golden.py, and folders that do not hold what they say.
#include <gmock/gmock.h>

#include "tests/hf/golden_tensors.h"
#include "tests/hf/quantized_folder.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using testing_support::expect_same_bytes;
using testing_support::filled;
using testing_support::GoldenTensors;

constexpr const char* kModule = "model.layers.0.mlp.up_proj";

class LoadTransposed : public testing_support::QuantizedFolder {
 protected:
  Tensor& part(const std::string& name) { return tensors_[std::string(kModule) + "." + name]; }
  std::string error() {
    return error_of([](const Checkpoint& c) { load_linear(c, kModule); });
  }

  void awq() {
    config_["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4},
                                      {"group_size", 32},      {"zero_point", true},
                                      {"version", "gemm"},     {"modules_to_not_convert", {"visual"}}};
    part("qweight") = golden_["awq.qweight"];
    part("qzeros") = golden_["awq.qzeros"];
    part("scales") = golden_["int4.stored_scales"];
  }
  void gptq(int bits, const std::string& format) {
    const std::string name = fmt::format("int{}.", bits);
    config_["quantization_config"] = {{"quant_method", "gptq"}, {"bits", bits}, {"group_size", 32},
                                      {"desc_act", false},      {"sym", false}, {"checkpoint_format", format}};
    part("qweight") = golden_[name + "gptq.qweight"];
    part("qzeros") = golden_[name + (format == "gptq_v2" ? "gptq_v2.qzeros" : "gptq.qzeros")];
    part("scales") = golden_[name + "stored_scales"];
    tensors_.erase(std::string(kModule) + ".g_idx");
  }
  // Codes, zeros and scales are those that the golden file packed.
  void expect_golden(const LinearParts& parts, int bits) {
    const std::string name = fmt::format("int{}.", bits);
    const Tensor codes = golden_[name + "codes"], zeros = golden_[name + "zeros"];
    const int middle = 1 << (bits - 1);
    ASSERT_EQ(parts.weight.shape, codes.shape());
    for (std::int64_t r = 0; r < parts.weight.rows(); ++r) {
      for (std::int64_t c = 0; c < parts.weight.cols(); ++c) {
        const int code = codes.bits<std::uint8_t>()[r * parts.weight.cols() + c];
        ASSERT_EQ(decode_code(parts.weight, r, c), static_cast<float>(code - middle)) << r << " " << c;
      }
    }
    for (std::int64_t i = 0; i < zeros.numel(); ++i) {
      ASSERT_EQ(parts.weight.zeros.data<std::int8_t>()[i], zeros.bits<std::uint8_t>()[i] - middle) << i;
    }
    expect_same_bytes(parts.weight.scales, golden_[name + "scales"], "scales");
  }

  GoldenTensors golden_{"words.safetensors"};
};

TEST_F(LoadTransposed, ReadsAutoAwq) {
  awq();
  expect_golden(load_linear(open(), kModule), 4);
}

TEST_F(LoadTransposed, ReadsBothVersionsOfGptq) {
  for (const int bits : {4, 8}) {
    for (const char* format : {"gptq", "gptq_v2"}) {
      gptq(bits, format);
      const LinearParts parts = load_linear(open(), kModule);
      expect_golden(parts, bits);
      EXPECT_FALSE(parts.input_order.defined());
    }
  }
}

TEST_F(LoadTransposed, PutsActOrderIntoTheOrderOfItsGroups) {
  for (const int bits : {4, 8}) {
    gptq(bits, "gptq");
    part("g_idx") = golden_[fmt::format("int{}.g_idx", bits)];
    const LinearParts parts = load_linear(open(), kModule);
    const Tensor decoded = dequantize(parts.weight), want = golden_[fmt::format("int{}.ordered_values", bits)];
    for (std::int64_t i = 0; i < decoded.numel(); ++i) {
      const std::int64_t row = i / decoded.dim(1), input = parts.input_order.data<std::int32_t>()[i % decoded.dim(1)];
      ASSERT_EQ(decoded.data<float>()[i], want.data<float>()[row * decoded.dim(1) + input]) << i;
    }
  }
}

TEST_F(LoadTransposed, SymmetricWeightsHaveNoZeros) {
  gptq(4, "gptq");
  config_["quantization_config"]["sym"] = true;
  part("qzeros") = filled(DType::kI32, {2, 3}, 0x77);
  EXPECT_FALSE(load_linear(open(), kModule).weight.zeros.defined());
  part("qzeros") = filled(DType::kI32, {2, 3}, 0x88);
  EXPECT_THAT(error(),
              HasSubstr("qzeros': expected zero points of 7 (the configuration says symmetric), found others"));
}

TEST_F(LoadTransposed, OneGroupForAllInputs) {
  gptq(4, "gptq_v2");
  config_["quantization_config"]["group_size"] = -1;
  part("qzeros") = filled(DType::kI32, {1, 3}, 0x33);
  part("scales") = filled(DType::kF16, {1, 24}, 0.5f);
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(parts.weight.spec.granularity, Granularity::kChannel);
  EXPECT_EQ(zero_at(parts.weight, 5, 40), -5.0f);
}

TEST_F(LoadTransposed, ModulesThatStayedAsTheyWere) {
  awq();
  tensors_["visual.blocks.0.mlp.fc1.weight"] = filled(DType::kBF16, {3, 4});
  tensors_["model.layers.1.mlp.up_proj.weight"] = filled(DType::kBF16, {3, 4});
  const Checkpoint checkpoint = open();
  EXPECT_EQ(load_linear(checkpoint, "visual.blocks.0.mlp.fc1").weight.spec, QuantSpec{});
  EXPECT_EQ(load_linear(checkpoint, "model.layers.1.mlp.up_proj").weight.spec, QuantSpec{});
}

TEST_F(LoadTransposed, DynamicRulesOfGptq) {
  gptq(8, "gptq");
  config_["quantization_config"]["bits"] = 4;
  config_["quantization_config"]["dynamic"] = {{"+:.*up_proj.*", {{"bits", 8}}},
                                               {"-:.*down_proj.*", OrderedJson::object()}};
  tensors_["model.layers.0.mlp.down_proj.weight"] = filled(DType::kBF16, {3, 4});
  const Checkpoint checkpoint = open();
  expect_golden(load_linear(checkpoint, kModule), 8);
  EXPECT_EQ(load_linear(checkpoint, "model.layers.0.mlp.down_proj").weight.spec, QuantSpec{});
}

TEST_F(LoadTransposed, DamagedModules) {
  awq();
  tensors_.erase(std::string(kModule) + ".qzeros");
  EXPECT_THAT(error(), HasSubstr("up_proj.qzeros': missing; the configuration says int4 group 32"));
  awq();
  tensors_.erase(std::string(kModule) + ".qweight");
  EXPECT_THAT(error(), HasSubstr("up_proj.qweight': missing"));
  awq();
  config_["quantization_config"]["group_size"] = 16;
  EXPECT_THAT(error(), HasSubstr("scales': expected shape [4, 24]"));
  config_["quantization_config"]["group_size"] = 48;
  EXPECT_THAT(error(), HasSubstr("qweight': expected inputs in whole groups of 48, found 64"));
  awq();
  part("qweight") = filled(DType::kU8, {64, 12});
  EXPECT_THAT(error(), HasSubstr("qweight': expected I32, found U8"));
  awq();
  part("scales") = filled(DType::kF16, {24, 2});
  EXPECT_THAT(error(), HasSubstr("scales': expected shape [2, 24] for int4 group 32"));
  part("scales") = filled(DType::kF16, {2, 24}, -1.0f);
  EXPECT_THAT(error(), HasSubstr("scales': expected finite scales of 0 or more, found -1"));
  gptq(4, "gptq");
  part("g_idx") = filled(DType::kI32, {64}, 1);
  EXPECT_THAT(error(), HasSubstr("g_idx': expected groups below 2, found 16843009 at 0"));
  part("g_idx") = filled(DType::kI32, {64}, 0);
  EXPECT_THAT(error(), HasSubstr("g_idx': expected 32 inputs in each group"));
  tensors_.erase(std::string(kModule) + ".g_idx");
  config_["quantization_config"]["desc_act"] = true;
  EXPECT_THAT(error(), HasSubstr("up_proj.g_idx': missing; the configuration says desc_act"));
  part("g_idx") = filled(DType::kI32, {63}, 0);
  EXPECT_THAT(error(), HasSubstr("g_idx': expected shape [64]"));
}

TEST_F(LoadTransposed, ConfigurationErrors) {
  const auto with = [&](const char* field, OrderedJson value) {
    awq();
    config_["quantization_config"][field] = std::move(value);
    return error();
  };
  EXPECT_THAT(with("bits", 3), HasSubstr("field 'bits': expected 4, found 3"));
  EXPECT_THAT(with("group_size", 0), HasSubstr("field 'group_size': expected -1 or a number"));
  EXPECT_THAT(with("version", "gemv"), HasSubstr("field 'version': expected gemm, found 'gemv'"));
  EXPECT_THAT(with("zero_point", "yes"), HasSubstr("field 'zero_point'"));
  gptq(4, "gptq_v3");
  EXPECT_THAT(error(), HasSubstr("field 'checkpoint_format': expected gptq or gptq_v2, found 'gptq_v3'"));
  gptq(4, "gptq");
  config_["quantization_config"]["bits"] = 2;
  EXPECT_THAT(error(), HasSubstr("field 'bits': expected 4 or 8, found 2"));
  gptq(4, "gptq");
  config_["quantization_config"]["dynamic"] = 3;
  EXPECT_THAT(error(), HasSubstr("field 'dynamic': expected an object, found 3"));
}

}  // namespace
}  // namespace halftone
