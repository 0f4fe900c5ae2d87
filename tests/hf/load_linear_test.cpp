// Quantized modules, and folders that do not hold what their configuration says. Equality with what was written is
// tested in tests/export.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/hf/quantized_folder.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using testing_support::filled;
using testing_support::integers;

constexpr const char* kModule = "model.layers.0.mlp.up_proj";

class LoadLinear : public testing_support::QuantizedFolder {
 protected:
  Tensor& part(const std::string& name) { return tensors_[std::string(kModule) + "." + name]; }
  std::string error() {
    return error_of([](const Checkpoint& c) { load_linear(c, kModule); });
  }
  OrderedJson& weights() { return config_["quantization_config"]["config_groups"]["group_0"]["weights"]; }

  void compressed_tensors(const char* format, OrderedJson weight_args, OrderedJson input_args) {
    config_["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                      {"format", format},
                                      {"quantization_status", "compressed"},
                                      {"ignore", {"lm_head"}},
                                      {"config_groups",
                                       {{"group_0",
                                         {{"targets", OrderedJson::array({"Linear"})},
                                          {"weights", std::move(weight_args)},
                                          {"input_activations", std::move(input_args)}}}}}};
  }
  // 4 rows of 256 columns in groups of 128.
  void packed_int4() {
    compressed_tensors("pack-quantized", {{"num_bits", 4}, {"type", "int"}, {"strategy", "group"}, {"group_size", 128}},
                       nullptr);
    part("weight_packed") = filled(DType::kI32, {4, 32}, 0x9b);
    part("weight_shape") = integers({4, 256});
    part("weight_scale") = filled(DType::kBF16, {4, 2}, 0.5f);
  }
  void plain_int8() {
    const OrderedJson per_tensor{{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}};
    compressed_tensors("int-quantized", {{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}}, per_tensor);
    part("weight") = filled(DType::kI8, {4, 6}, -3);
    part("weight_scale") = filled(DType::kBF16, {4, 1}, 0.5f);
    part("input_scale") = filled(DType::kBF16, {1}, 0.25f);
  }
  // 4 rows of 256 columns in groups of 128 with zeros of 3.
  void asymmetric_int4() {
    packed_int4();
    weights()["symmetric"] = false;
    part("weight_zero_point") = filled(DType::kI32, {1, 2}, 0xbb);
  }
  void modelopt(const char* algorithm) {
    modelopt_ = {{"producer", {{"name", "modelopt"}}},
                 {"quantization", {{"quant_algo", algorithm}, {"exclude_modules", {"lm_head"}}}}};
  }
  // 4 rows of 128 columns, one group a row.
  void int4_awq() {
    modelopt("W4A16_AWQ");
    part("weight") = filled(DType::kU8, {2, 128}, 0x7e);
    part("weight_scale") = filled(DType::kF32, {4, 1}, 0.5f);
    part("pre_quant_scale") = filled(DType::kBF16, {128}, 2.0f);
  }
  void mxfp8() {
    modelopt("MXFP8");
    part("weight") = filled(DType::kF8E4M3, {4, 64}, 0x38);
    part("weight_scale") = filled(DType::kU8, {4, 2}, 128);
  }
  void nvfp4() {
    modelopt_ = {{"producer", {{"name", "modelopt"}}},
                 {"quantization",
                  {{"quant_algo", "NVFP4"}, {"group_size", 16}, {"exclude_modules", {"lm_head", "model.visual*"}}}}};
    part("weight") = filled(DType::kU8, {4, 16}, 0x27);
    part("weight_scale") = filled(DType::kF8E4M3, {4, 2}, 0x38);
    part("weight_scale_2") = filled(DType::kF32, {}, 0.5f);
    part("input_scale") = filled(DType::kF32, {}, 2.0f);
  }
};

TEST_F(LoadLinear, UnpacksInt4) {
  packed_int4();
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(parts.weight.shape, (Shape{4, 256}));
  EXPECT_EQ(scale_at(parts.weight, 3, 255), 0.5f);
  EXPECT_EQ(decode_code(parts.weight, 2, 10), 0xb - 8);  // the low nibble comes first
  EXPECT_EQ(decode_code(parts.weight, 2, 11), 0x9 - 8);
}

TEST_F(LoadLinear, RefusesZeroPointsOfSymmetricWeights) {
  asymmetric_int4();
  weights()["symmetric"] = true;
  EXPECT_THAT(error(), HasSubstr("weight_zero_point': expected none, or I8 zeros, for symmetric weights, found I32"));
  part("weight_zero_point") = filled(DType::kI8, {4, 2}, 0);
  EXPECT_EQ(load_linear(open(), kModule).weight.shape, (Shape{4, 256}));
}

TEST_F(LoadLinear, UnpacksRowsThatEndInsideAWord) {
  packed_int4();
  part("weight_packed") = filled(DType::kI32, {4, 17}, 0x9b);
  part("weight_shape") = integers({4, 131});
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(parts.weight.payload.shape(), (Shape{4, 66}));
  EXPECT_EQ(decode_code(parts.weight, 3, 130), 3);
  EXPECT_EQ(parts.weight.payload.bits<std::uint8_t>()[65] >> 4, 0);
}

TEST_F(LoadLinear, ReadsInt8WithItsInputs) {
  plain_int8();
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(decode_code(parts.weight, 1, 1), -3);
  EXPECT_EQ(parts.input, (InputQuant{InputQuant::Kind::kStaticInt8, 0.25f}));
}

TEST_F(LoadLinear, ReadsNvfp4) {
  nvfp4();
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(parts.weight.shape, (Shape{4, 32}));
  EXPECT_EQ(decode_code(parts.weight, 0, 0), 6.0f);
  EXPECT_EQ(decode_code(parts.weight, 0, 1), 1.0f);
  EXPECT_EQ(scale_at(parts.weight, 0, 17), 1.0f);
  EXPECT_EQ(parts.weight.global_scale, 0.5f);
  EXPECT_EQ(parts.input, (InputQuant{InputQuant::Kind::kDynamicNvfp4, 2.0f}));
}

TEST_F(LoadLinear, ReadsZeroPoints) {
  asymmetric_int4();
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(zero_at(parts.weight, 3, 200), 0xb - 8);
  EXPECT_EQ(to_f32(dequantize(parts.weight)).data<float>()[0], 0.0f);  // code 3, zero 3
  EXPECT_EQ(to_f32(dequantize(parts.weight)).data<float>()[1], -1.0f);
  part("weight_zero_point") = filled(DType::kI32, {4, 2}, 0xbb);
  EXPECT_THAT(error(), HasSubstr("weight_zero_point': expected shape [1, 2] for int4 group 128"));
  tensors_.erase(std::string(kModule) + ".weight_zero_point");
  EXPECT_THAT(error(), HasSubstr("weight_zero_point': missing"));
}

TEST_F(LoadLinear, ReadsPairsOfRowsWithTheirInputScales) {
  int4_awq();
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(parts.weight.shape, (Shape{4, 128}));
  EXPECT_EQ(decode_code(parts.weight, 2, 5), -2.0f);  // the even row is in the low nibble
  EXPECT_EQ(decode_code(parts.weight, 3, 5), 7.0f);
  EXPECT_EQ(parts.input_scales.data<float>()[127], 2.0f);
  part("pre_quant_scale") = filled(DType::kBF16, {64}, 2.0f);
  EXPECT_THAT(error(), HasSubstr("pre_quant_scale': expected shape [128] for scaled inputs, found [64]"));
  tensors_.erase(std::string(kModule) + ".pre_quant_scale");  // a norm may have it
  EXPECT_FALSE(load_linear(open(), kModule).input_scales.defined());
  part("weight_scale") = filled(DType::kF32, {4, 2}, 0.5f);
  EXPECT_THAT(error(), HasSubstr("weight_scale': expected shape [4, 1] for int4 group 128"));
  part("weight") = filled(DType::kI8, {2, 128});
  EXPECT_THAT(error(), HasSubstr("weight': expected U8, found I8"));
}

TEST_F(LoadLinear, ReadsTheGroupSizeThatOnlyTheSecondFileStates) {
  int4_awq();
  modelopt_["quantization"]["group_size"] = 64;
  config_["quantization_config"] = {{"quant_method", "modelopt"}, {"quant_algo", "W4A16_AWQ"}};
  part("weight_scale") = filled(DType::kF32, {4, 2}, 0.5f);
  EXPECT_EQ(load_linear(open(), kModule).weight.spec.group, 64);
}

TEST_F(LoadLinear, ReadsMxScales) {
  mxfp8();
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_TRUE(parts.weight.spec.mx);
  EXPECT_EQ(to_f32(dequantize(parts.weight)).data<float>()[63], 2.0f);
  EXPECT_EQ(parts.input.kind, InputQuant::Kind::kDynamicMxfp8);
  part("weight_scale") = filled(DType::kU8, {4, 2}, 255);
  EXPECT_THAT(error(), HasSubstr("weight_scale': expected exponents of 0 to 254, found 255 at 0"));
  part("weight_scale") = filled(DType::kF32, {4, 2});
  EXPECT_THAT(error(), HasSubstr("weight_scale': expected U8 or another of its kind, found F32"));
  mxfp8();
  part("weight") = filled(DType::kF8E4M3, {4, 48}, 0x38);
  EXPECT_THAT(error(), HasSubstr("weight': expected inputs in whole blocks of 32, found 48"));
}

TEST_F(LoadLinear, UnpacksSixBits) {
  config_["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"format", "mxfp6-pack-quantized"},
      {"config_groups",
       {{"group_0",
         {{"targets", {"Linear"}},
          {"weights", {{"num_bits", 6}, {"type", "float"}, {"strategy", "group"}, {"group_size", 32}}}}}}}};
  part("weight_packed") = filled(DType::kU8, {4, 24}, 0x20);  // codes 0x20, 0x00, 0x02, 0x08, least significant first
  part("weight_scale") = filled(DType::kU8, {4, 1}, 128);
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(parts.weight.shape, (Shape{4, 32}));
  const Tensor values = dequantize(parts.weight);
  EXPECT_EQ(std::vector<float>(values.data<float>() + 124, values.data<float>() + 128),
            (std::vector<float>{-0.0f, 0.0f, 0.5f, 2.0f}));
  part("weight_packed") = filled(DType::kU8, {4, 23});
  EXPECT_THAT(error(), HasSubstr("weight_packed': expected [outputs, inputs * 3 / 4], found [4, 23]"));
  part("weight_packed") = filled(DType::kU8, {4, 27});
  EXPECT_THAT(error(), HasSubstr("weight_packed': expected inputs in whole blocks of 32, found 36"));
}

TEST_F(LoadLinear, ReadsTiles) {
  modelopt("fp8_pb_wo");
  part("weight") = filled(DType::kF8E4M3, {130, 8}, 0x38);
  part("weight_scale") = filled(DType::kF32, {2, 1, 1, 1}, 0.5f);
  EXPECT_EQ(scale_at(load_linear(open(), kModule).weight, 129, 7), 0.5f);
  part("weight_scale") = filled(DType::kF32, {1, 1, 1, 1}, 0.5f);
  EXPECT_THAT(error(), HasSubstr("weight_scale': expected shape [2, 1]"));
}

TEST_F(LoadLinear, ReadsALowRankPart) {
  nvfp4();
  modelopt_["quantization"]["quant_algo"] = "NVFP4_SVD";
  EXPECT_THAT(error(),
              HasSubstr("weight_quantizer._svdquant_lora_a': missing; the configuration says a low-rank part"));
  part("weight_quantizer._svdquant_lora_a") = filled(DType::kBF16, {2, 32});
  part("weight_quantizer._svdquant_lora_b") = filled(DType::kBF16, {4, 3});
  EXPECT_THAT(error(), HasSubstr("_svdquant_lora_b': expected shape [4, 2]"));
  part("weight_quantizer._svdquant_lora_b") = filled(DType::kBF16, {4, 2});
  EXPECT_EQ(load_linear(open(), kModule).low_rank_a.shape(), (Shape{2, 32}));
}

TEST_F(LoadLinear, ReadsTheInverseGlobalScale) {
  const OrderedJson inputs{
      {"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}, {"dynamic", "local"}};
  compressed_tensors("nvfp4-pack-quantized",
                     {{"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}}, inputs);
  part("weight_packed") = filled(DType::kU8, {4, 16}, 0x22);
  part("weight_scale") = filled(DType::kF8E4M3, {4, 2}, 0x38);
  part("weight_global_scale") = filled(DType::kF32, {1}, 4.0f);
  part("input_global_scale") = filled(DType::kF32, {1}, 8.0f);
  const LinearParts parts = load_linear(open(), kModule);
  EXPECT_EQ(to_f32(dequantize(parts.weight)).data<float>()[0], 0.25f);
  EXPECT_EQ(parts.input.step(), 0.125f);
  tensors_.erase(std::string(kModule) + ".weight_global_scale");
  EXPECT_THAT(error(), HasSubstr("weight_global_scale': missing"));
}

TEST_F(LoadLinear, LeavesIgnoredModulesAsTheyAre) {
  nvfp4();
  tensors_["lm_head.weight"] = filled(DType::kBF16, {3, 4});
  tensors_["visual.blocks.0.mlp.fc1.weight"] = filled(DType::kBF16, {3, 4});  // excluded as model.visual*
  const Checkpoint checkpoint = open();
  EXPECT_EQ(load_linear(checkpoint, "lm_head").weight.spec, QuantSpec{});
  EXPECT_EQ(load_linear(checkpoint, "visual.blocks.0.mlp.fc1").weight.spec, QuantSpec{});
}

TEST_F(LoadLinear, UnquantizedErrors) {
  EXPECT_THAT(error(), HasSubstr("tensor 'model.layers.0.mlp.up_proj.weight': expected in the checkpoint, found none"));
  part("weight") = filled(DType::kI8, {4, 4});
  EXPECT_THAT(error(), HasSubstr("(the module is not quantized), found I8 [4, 4]"));
  part("weight") = filled(DType::kBF16, {4, 4, 2});
  EXPECT_THAT(error(), HasSubstr("found BF16 [4, 4, 2]"));
  part("weight") = filled(DType::kBF16, {4, 4});
  part("bias") = filled(DType::kBF16, {5});
  EXPECT_THAT(error(), HasSubstr("up_proj.bias': expected shape [4], found [5]"));
}

TEST_F(LoadLinear, PackedErrors) {
  packed_int4();
  part("weight_scale") = filled(DType::kBF16, {4, 4}, 0.5f);
  EXPECT_THAT(error(),
              HasSubstr("weight_scale': expected shape [4, 2] for int4 group 128 of a [4, 256] weight, found [4, 4]"));
  part("weight_scale") = filled(DType::kI32, {4, 2});
  EXPECT_THAT(error(), HasSubstr("weight_scale': expected F32 or another of its kind, found I32"));
  part("weight_scale") = filled(DType::kBF16, {4, 2}, std::numeric_limits<float>::infinity());
  EXPECT_THAT(error(), HasSubstr("expected finite scales"));
  part("weight_scale") = filled(DType::kBF16, {4, 2}, -1.0f);
  EXPECT_THAT(error(), HasSubstr("found -1 at 0"));
  tensors_.erase(std::string(kModule) + ".weight_scale");
  EXPECT_THAT(error(), HasSubstr("weight_scale': missing; the configuration says int4 group 128"));

  packed_int4();
  for (const auto& lie :
       {std::vector<std::int64_t>{4, 264}, {4, 248}, {5, 256}, {4, -1}, {-4, 256}, {4, INT64_MAX}, {4, INT64_MIN}}) {
    part("weight_shape") = integers(lie);
    EXPECT_THAT(error(),
                HasSubstr("weight_packed': expected the 8 values of a word in shape [4, 32], found weight_shape"));
  }
  part("weight_shape") = integers({4, 256, 1});
  EXPECT_THAT(error(), HasSubstr("weight_shape': expected shape [2]"));
  packed_int4();
  part("weight_packed") = filled(DType::kU8, {4, 128});
  EXPECT_THAT(error(), HasSubstr("weight_packed': expected I32, found U8"));
}

TEST_F(LoadLinear, PlainErrors) {
  plain_int8();
  part("weight") = filled(DType::kF8E4M3, {4, 6});
  EXPECT_THAT(error(), HasSubstr("weight': expected I8, found F8_E4M3; the configuration says int8 per channel"));
  plain_int8();
  part("weight_scale") = filled(DType::kBF16, {6, 1});
  EXPECT_THAT(error(), HasSubstr("expected shape [4] for int8 per channel of a [4, 6] weight, found [6, 1]"));
  plain_int8();
  part("input_scale") = filled(DType::kBF16, {1}, 0.0f);
  EXPECT_THAT(error(), HasSubstr("input_scale': expected a finite number above 0, found 0"));
  tensors_.erase(std::string(kModule) + ".input_scale");
  EXPECT_THAT(error(), HasSubstr("input_scale': missing; the configuration says quantized inputs"));
  part("input_scale") = filled(DType::kBF16, {2});
  EXPECT_THAT(error(), HasSubstr("input_scale': expected one number, found shape [2]"));
}

TEST_F(LoadLinear, BlockErrors) {
  nvfp4();
  part("weight_scale") = filled(DType::kF8E4M3, {4, 1}, 0x38);
  EXPECT_THAT(error(), HasSubstr("weight_scale': expected shape [4, 2] for e2m1 group 16, found [4, 1]"));
  part("weight_scale") = filled(DType::kF8E4M3, {4, 2}, 0x7f);
  EXPECT_THAT(error(), HasSubstr("expected finite scales"));
  nvfp4();
  part("weight") = filled(DType::kU8, {4, 12}, 0);
  EXPECT_THAT(error(), HasSubstr("weight': expected inputs in whole blocks of 16, found 24"));
  nvfp4();
  tensors_.erase(std::string(kModule) + ".weight_scale_2");
  EXPECT_THAT(error(), HasSubstr("weight_scale_2': missing"));
  nvfp4();
  modelopt_["quantization"]["group_size"] = 32;
  EXPECT_THAT(error(), HasSubstr("field 'group_size': expected 16 for quant_algo NVFP4, found 32"));
}

TEST_F(LoadLinear, TensorsOfAnotherAlgorithmAreErrors) {
  nvfp4();
  part("pre_quant_scale") = filled(DType::kBF16, {32}, 2.0f);
  EXPECT_THAT(error(), HasSubstr("pre_quant_scale': expected none, as field 'quant_algo' names an algorithm without"));
  tensors_.erase(std::string(kModule) + ".pre_quant_scale");
  modelopt_["quantization"]["quant_algo"] = "W4A16_NVFP4";
  EXPECT_THAT(error(), HasSubstr("input_scale': expected none, as field 'quant_algo' names an algorithm without"));
  tensors_.erase(std::string(kModule) + ".input_scale");
  EXPECT_EQ(error(), "no error");
}

TEST_F(LoadLinear, ErrorsOfInputsAndCacheNameTheField) {
  const auto with = [&](const char* part, OrderedJson args) {
    packed_int4();
    auto& config = config_["quantization_config"];
    (std::string_view(part) == "kv_cache_scheme" ? config : config["config_groups"]["group_0"])[part] = std::move(args);
    return error();
  };
  const auto inputs = [&](OrderedJson args) { return with("input_activations", std::move(args)); };
  EXPECT_THAT(inputs({{"type", "text"}}),
              HasSubstr("group_0.input_activations] field 'type': expected int, float for inputs, found text"));
  EXPECT_THAT(inputs({{"num_bits", 4}}), HasSubstr("field 'num_bits': expected 8 for inputs of type int, found 4"));
  EXPECT_THAT(inputs({{"strategy", "channel"}}),
              HasSubstr("field 'strategy': expected tensor, token for inputs of type int and 8 bits, found channel"));
  EXPECT_THAT(
      inputs({{"type", "float"}, {"strategy", "group"}, {"group_size", 64}, {"dynamic", true}}),
      HasSubstr("field 'group_size': expected 128, 32 for inputs of type float and 8 bits with strategy group"));
  EXPECT_THAT(inputs({{"strategy", "token"}}), HasSubstr("field 'dynamic': expected true for inputs of type int"));
  EXPECT_THAT(inputs({{"symmetric", false}}), HasSubstr("field 'symmetric': expected true for inputs, found false"));
  const auto cache = [&](const char* field, OrderedJson value) {
    OrderedJson args{{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}};
    args[field] = std::move(value);
    return with("kv_cache_scheme", args);
  };
  EXPECT_THAT(cache("num_bits", 4),
              HasSubstr("kv_cache_scheme] field 'num_bits': expected 8 for the KV cache, found 4"));
  EXPECT_THAT(cache("type", "int"), HasSubstr("field 'type': expected float for the KV cache, found int"));
  EXPECT_THAT(cache("strategy", "token"), HasSubstr("field 'strategy': expected tensor or attn_head"));
  EXPECT_THAT(cache("dynamic", true), HasSubstr("field 'dynamic': expected false for the KV cache, found true"));
  EXPECT_THAT(cache("symmetric", false), HasSubstr("field 'symmetric': expected true for the KV cache, found false"));
}

TEST_F(LoadLinear, ConfigurationErrors) {
  const auto with = [&](const char* field, OrderedJson value) {
    packed_int4();
    weights()[field] = std::move(value);
    return error();
  };
  EXPECT_THAT(with("num_bits", "4"), HasSubstr("group_0.weights] field 'num_bits': expected an integer, found \"4\""));
  EXPECT_THAT(with("num_bits", 4.5), HasSubstr("expected an integer, found 4.5"));
  EXPECT_THAT(with("num_bits", 3),
              HasSubstr("weights] field 'num_bits': expected 4, 8 for weights in format 'pack-quantized', found 3"));
  EXPECT_THAT(with("type", "float"),
              HasSubstr("field 'type': expected int for weights in format 'pack-quantized', found float"));
  EXPECT_THAT(with("strategy", "token"),
              HasSubstr("field 'strategy': expected tensor, channel, group or block for weights, found token"));
  EXPECT_THAT(with("strategy", "block"),
              HasSubstr("field 'block_structure': expected [128,128] for strategy block, found null"));
  EXPECT_THAT(with("group_size", -7),
              HasSubstr("field 'group_size': expected 1 to 1048576 for strategy group, found -7"));
  EXPECT_THAT(with("dynamic", true), HasSubstr("field 'dynamic': expected false for weights, found true"));
  EXPECT_THAT(with("dynamic", "sometimes"), HasSubstr("field 'dynamic': expected true, false or local"));
  EXPECT_THAT(with("actorder", "group"), HasSubstr("field 'actorder'"));

  packed_int4();
  config_["quantization_config"]["format"] = "marlin-99";
  EXPECT_THAT(error(), HasSubstr("field 'format': expected pack-quantized, int-quantized, "));
  EXPECT_THAT(error(), HasSubstr("mxfp8-quantized for weights, found marlin-99"));
  packed_int4();
  config_["quantization_config"]["transform_config"] = {{"config_groups", {{"R3", 1}}}};
  EXPECT_THAT(error(), HasSubstr("field 'transform_config': expected none, found"));

  config_["quantization_config"]["quant_method"] = "hqq";
  EXPECT_THAT(error(), HasSubstr("expected compressed-tensors, modelopt, awq, gptq or bitsandbytes, found 'hqq'"));
  config_["quantization_config"].erase("quant_method");
  EXPECT_THAT(error(), HasSubstr("field 'quant_method': missing"));
  config_["quantization_config"] = 3;
  EXPECT_THAT(error(), HasSubstr("quantization_config] expected an object, found 3"));
  packed_int4();
  config_["quantization_config"]["quantization_status"] = "frozen";
  EXPECT_THAT(error(), HasSubstr("field 'quantization_status': expected compressed, found 'frozen'"));
  packed_int4();
  config_["quantization_config"]["ignore"] = OrderedJson::array({"re:(unclosed"});
  EXPECT_THAT(error(), HasSubstr("expected a regular expression, found 're:(unclosed'"));
  config_.erase("quantization_config");
  nvfp4();
  modelopt_["quantization"]["quant_algo"] = "W2A16";
  EXPECT_THAT(error(), HasSubstr("expected one of FP8, FP8_PER_CHANNEL_PER_TOKEN"));
  EXPECT_THAT(error(), HasSubstr("found 'W2A16'"));
}

}  // namespace
}  // namespace halftone
