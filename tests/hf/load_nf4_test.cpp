// Modules as bitsandbytes saves them (tests/golden/make_nf4_golden.py), and folders that do not hold what they say.
#include <gmock/gmock.h>

#include "tests/hf/golden_tensors.h"
#include "tests/hf/quantized_folder.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using testing_support::expect_same_bytes;
using testing_support::filled;
using testing_support::GoldenTensors;

constexpr const char* kState = "weight.quant_state.bitsandbytes__nf4";

class LoadNf4 : public testing_support::QuantizedFolder {
 protected:
  void store(const std::string& folder) {
    tensors_.clear();
    for (const std::string& name : golden_.names("")) {
      if (name.starts_with(folder + ".m.")) tensors_[name.substr(folder.size() + 1)] = golden_[name];
    }
    config_["quantization_config"] = {{"quant_method", "bitsandbytes"},
                                      {"load_in_4bit", true},
                                      {"bnb_4bit_quant_type", "nf4"},
                                      {"bnb_4bit_use_double_quant", true}};
  }
  std::string error() {
    return error_of([](const Checkpoint& c) { load_linear(c, "m"); });
  }
  // The error after one tensor is removed or changed.
  std::string error_with(const std::string& part, const Tensor& tensor) {
    store("whole");
    tensors_.erase("m." + part);
    if (tensor.defined()) tensors_["m." + part] = tensor;
    return error();
  }
  std::string error_with_state(std::string from, const std::string& to) {
    store("whole");
    const Tensor state = golden_["whole.m." + std::string(kState)];
    std::string text(static_cast<const char*>(state.raw()), static_cast<std::size_t>(state.nbytes()));
    text.replace(text.find(from), from.size(), to);
    Tensor changed(DType::kU8, {std::ssize(text)});
    std::copy(text.begin(), text.end(), changed.bits<std::uint8_t>());
    tensors_["m." + std::string(kState)] = changed;
    return error();
  }

  GoldenTensors golden_{"nf4.safetensors"};
};

TEST_F(LoadNf4, ReadsWhatTheToolSaves) {
  for (const auto& [folder, group] : {std::pair("whole", 64), std::pair("cut", 32), std::pair("plain", 2)}) {
    SCOPED_TRACE(folder);
    store(folder);
    const LinearParts parts = load_linear(open(), "m");
    EXPECT_EQ(parts.weight.spec, (QuantSpec{Element::kNF4, Granularity::kGroup, group}));
    expect_same_bytes(dequantize(parts.weight), golden_[std::string(folder) + ".decoded"], folder);
  }
}

TEST_F(LoadNf4, AWeightThatStayedAsItWas) {
  store("whole");
  tensors_ = {{"m.weight", filled(DType::kBF16, {4, 64})}};
  EXPECT_EQ(load_linear(open(), "m").weight.spec.element, Element::kBF16);
}

TEST_F(LoadNf4, ErrorsNameTheTensorAndTheRule) {
  EXPECT_THAT(error_with("weight.absmax", {}), HasSubstr("tensor 'm.weight.absmax': missing"));
  EXPECT_THAT(error_with(kState, {}), HasSubstr("quant_state.bitsandbytes__nf4': missing"));
  EXPECT_THAT(error_with("weight.quant_map", {}), HasSubstr("tensor 'm.weight.quant_map': missing"));
  EXPECT_THAT(error_with("weight.quant_map", filled(DType::kF32, {16})), HasSubstr("expected the levels of NF4"));
  EXPECT_THAT(error_with("weight", filled(DType::kU8, {383, 1})), HasSubstr("for the stated shape"));
  EXPECT_THAT(error_with("weight", filled(DType::kU8, {1, 384})),
              HasSubstr("tensor 'm.weight': expected shape [384, 1]"));
  EXPECT_THAT(error_with("weight", filled(DType::kBF16, {6, 128})), HasSubstr("tensor 'm.weight': expected U8"));
  EXPECT_THAT(error_with("weight.absmax", filled(DType::kU8, {11})),
              HasSubstr("'m.weight.absmax': expected shape [12]"));
  EXPECT_THAT(error_with("weight.absmax", filled(DType::kF32, {12})), HasSubstr("'m.weight.absmax': expected U8"));
  EXPECT_THAT(error_with("weight.nested_absmax", filled(DType::kF32, {2})), HasSubstr("expected shape [1]"));
  EXPECT_THAT(error_with("weight.nested_absmax", filled(DType::kF32, {1}, NAN)), HasSubstr("expected finite scales"));
  EXPECT_THAT(error_with("weight.nested_quant_map", {}), HasSubstr("nested_quant_map': missing"));
}

TEST_F(LoadNf4, ErrorsNameTheFieldOfTheState) {
  EXPECT_THAT(error_with_state("nf4", "fp4"), HasSubstr("field 'quant_type': expected nf4"));
  EXPECT_THAT(error_with_state("[6, 128]", "[6, 130]"), HasSubstr("for the stated shape, found [6, 130]"));
  EXPECT_THAT(error_with_state("[6, 128]", "[4611686018427387904, 4]"), HasSubstr("for the stated shape"));
  EXPECT_THAT(error_with_state("[6, 128]", "[0, 128]"), HasSubstr("for the stated shape"));
  EXPECT_THAT(error_with_state("\"blocksize\": 64", "\"blocksize\": 0"), HasSubstr("field 'blocksize'"));
  EXPECT_THAT(error_with_state("\"blocksize\": 64", "\"blocksize\": 32"),
              HasSubstr("'m.weight.absmax': expected shape [24]"));
  EXPECT_THAT(error_with_state("{", "["), HasSubstr(kState));
  store("whole");
  config_["quantization_config"]["bnb_4bit_quant_type"] = "fp4";
  EXPECT_THAT(error(), HasSubstr("field 'bnb_4bit_quant_type': expected nf4, found 'fp4'"));
  config_["quantization_config"]["load_in_4bit"] = false;
  EXPECT_THAT(error(), HasSubstr("field 'load_in_4bit'"));
}

}  // namespace
}  // namespace halftone
