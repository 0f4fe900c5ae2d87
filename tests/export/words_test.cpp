// AutoAWQ's and GPTQ's tensors against those that tests/golden/make_words_golden.py packed from the same codes.
#include <gmock/gmock.h>

#include "export/layouts.h"
#include "hf/transposed_packing.h"
#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using testing_support::expect_same_bytes;
using testing_support::GoldenTensors;

class Words : public testing::Test {
 protected:
  ExportModule module(int bits) const {
    const std::string name = fmt::format("int{}.", bits);
    ExportModule module;
    QTensor& q = module.weight;
    q.spec = {bits == 4 ? Element::kInt4 : Element::kInt8, Granularity::kGroup, 32, false, true};
    q.payload = payload_from_transposed(transposed(golden_[name + "codes"]), q.spec.element);
    q.shape = golden_[name + "codes"].shape();
    q.scales = golden_[name + "scales"];
    q.zeros = golden_[name + "zeros"];
    Tensor zeros(DType::kI8, q.scales.shape());
    for (std::int64_t i = 0; i < zeros.numel(); ++i) {
      zeros.data<std::int8_t>()[i] = static_cast<std::int8_t>(q.zeros.bits<std::uint8_t>()[i] - (1 << (bits - 1)));
    }
    q.zeros = zeros;
    return module;
  }
  static Tensor part(const NamedTensors& tensors, const std::string& name) {
    for (const auto& [n, t] : tensors) {
      if (n == "m." + name) return t;
    }
    return {};
  }
  static std::string error_of(const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  GoldenTensors golden_{"words.safetensors"};
};

TEST_F(Words, AutoAwq) {
  const NamedTensors tensors = awq_module("m", module(4));
  expect_same_bytes(part(tensors, "qweight"), golden_["awq.qweight"], "qweight");
  expect_same_bytes(part(tensors, "qzeros"), golden_["awq.qzeros"], "qzeros");
  expect_same_bytes(part(tensors, "scales"), golden_["int4.stored_scales"], "scales");
}

TEST_F(Words, BothVersionsOfGptq) {
  for (const int bits : {4, 8}) {
    const std::string name = fmt::format("int{}.", bits);
    const NamedTensors v1 = gptq_module("m", module(bits), Layout::kGptq),
                       v2 = gptq_module("m", module(bits), Layout::kGptqV2);
    expect_same_bytes(part(v1, "qweight"), golden_[name + "gptq.qweight"], "qweight");
    expect_same_bytes(part(v1, "qzeros"), golden_[name + "gptq.qzeros"], "qzeros");
    expect_same_bytes(part(v2, "qzeros"), golden_[name + "gptq_v2.qzeros"], "qzeros of v2");
    expect_same_bytes(part(v1, "scales"), golden_[name + "stored_scales"], "scales");
    EXPECT_EQ(part(v1, "g_idx").data<std::int32_t>()[33], 1);
  }
}

TEST_F(Words, RefuseWhatTheyCannotHold) {
  ExportModule zero = module(4);
  zero.weight.zeros.data<std::int8_t>()[5] = -8;
  EXPECT_THAT(error_of([&] { gptq_module("m", zero, Layout::kGptq); }),
              HasSubstr("tensor 'm.qzeros': this layout cannot hold a zero point of 0"));
  EXPECT_EQ(error_of([&] { gptq_module("m", zero, Layout::kGptqV2); }), "no error");
  EXPECT_THAT(error_of([&] { awq_module("m", module(8)); }), HasSubstr("module 'm': expected int4 weights"));
  ExportModule inputs = module(4);
  inputs.input.kind = InputQuant::Kind::kStaticInt8;
  EXPECT_THAT(error_of([&] { awq_module("m", inputs); }), HasSubstr("inputs as they are"));
  ExportModule scale = module(4);
  scale.weight.scales = to_f32(scale.weight.scales);
  scale.weight.scales.data<float>()[0] = 0.1f;
  EXPECT_THAT(error_of([&] { awq_module("m", scale); }),
              HasSubstr("m.scales': expected scales that F16 holds exactly"));
}

}  // namespace
}  // namespace halftone
