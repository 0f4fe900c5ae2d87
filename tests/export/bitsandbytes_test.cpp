// Modules as bitsandbytes saves them (tests/golden/make_nf4_golden.py), written again from what they hold.
#include <gmock/gmock.h>

#include "export/layouts.h"
#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::expect_same_bytes;
using testing_support::GoldenTensors;

class Bitsandbytes : public testing::Test {
 protected:
  Tensor stored(const std::string& part) const { return golden_["whole.m.weight" + part]; }
  std::string state() const {
    const Tensor tensor = stored(".quant_state.bitsandbytes__nf4");
    return {static_cast<const char*>(tensor.raw()), static_cast<std::size_t>(tensor.nbytes())};
  }
  ExportModule module() const {
    ExportModule module;
    QTensor& q = module.weight;
    q.spec = {Element::kNF4, Granularity::kGroup, 64};
    q.shape = {6, 128};
    const Tensor bytes = stored("");
    q.payload = Tensor(DType::kU8, {6, 64});
    for (std::int64_t i = 0; i < bytes.numel(); ++i) {
      const int pair = bytes.bits<std::uint8_t>()[i];
      q.payload.bits<std::uint8_t>()[i] = static_cast<std::uint8_t>(pair >> 4 | pair << 4);
    }
    q.scales = Tensor::zeros(DType::kF32, {6, 2});
    const double offset = parse_json(state(), "golden")["nested_offset"].get<double>();
    module.nested = {stored(".absmax"), stored(".nested_absmax"), static_cast<float>(offset)};
    return module;
  }

  GoldenTensors golden_{"nf4.safetensors"};
};

TEST_F(Bitsandbytes, WritesWhatTheToolSaves) {
  const NamedTensors tensors = bitsandbytes_module("m", module(), DType::kF32);
  ASSERT_EQ(tensors.size(), 6u);
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with("bitsandbytes__nf4")) {
      std::string text(static_cast<const char*>(tensor.raw()), static_cast<std::size_t>(tensor.nbytes()));
      text.erase(text.find_last_not_of(' ') + 1);
      EXPECT_EQ(text, state());
    } else {
      const Tensor wanted = golden_["whole." + name];
      EXPECT_EQ(tensor.shape(), wanted.shape()) << name;
      expect_same_bytes(tensor, wanted, name);
    }
  }
}

TEST_F(Bitsandbytes, RefusesWhatItCannotHold) {
  ExportModule other = module();
  other.weight.spec.group = 32;
  EXPECT_THROW(bitsandbytes_module("m", other, DType::kF32), Error);
  other = module();
  other.nested.codes = Tensor();
  EXPECT_THROW(bitsandbytes_module("m", other, DType::kF32), Error);
  other = module();
  other.input.kind = InputQuant::Kind::kDynamicInt8;
  EXPECT_THROW(bitsandbytes_module("m", other, DType::kF32), Error);
}

}  // namespace
}  // namespace halftone
