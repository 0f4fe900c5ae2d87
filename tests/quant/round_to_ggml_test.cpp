#include "quant/round_to_ggml.h"

#include <gmock/gmock.h>

#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::expect_same_bytes;
using testing_support::GoldenTensors;

TEST(RoundToGgml, EqualsGgmlsReferenceBitForBit) {
  const GoldenTensors golden("gguf.safetensors");
  const Tensor weights = golden["weights"];
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_K}) {
      const std::string name(ggml_type_info(type).name);
      const Tensor blocks = round_to_ggml(weights, type, name, pool);
      for (std::int64_t r = 0; r < weights.dim(0); ++r) {
        expect_same_bytes(blocks.rows(r, r + 1), golden[name].rows(r, r + 1), fmt::format("{} row {}", name, r));
      }
    }
  }
}

TEST(RoundToGgml, RefusesWhatItCannotHold) {
  ThreadPool pool(1);
  EXPECT_THROW(round_to_ggml(Tensor::zeros(DType::kF32, {2, 48}), GgmlType::kQ8_0, "x", pool), Error);
  EXPECT_THROW(round_to_ggml(Tensor::zeros(DType::kF32, {2, 256}), GgmlType::kQ6_K, "x", pool), Error);
  Tensor nan = Tensor::zeros(DType::kF32, {1, 32});
  nan.data<float>()[7] = std::nanf("");
  EXPECT_THROW(round_to_ggml(nan, GgmlType::kQ4_0, "x", pool), Error);
}

}  // namespace
}  // namespace halftone
