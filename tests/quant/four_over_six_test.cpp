// tests/golden/four_over_six.safetensors: ModelOpt's bytes, and those of the definition in Python.
#include "quant/four_over_six.h"

#include <gmock/gmock.h>

#include "quant/layer_error.h"
#include "quant/round_to_nearest.h"
#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::expect_same_bytes;
using testing_support::GoldenTensors;

const QuantSpec kNvfp4{Element::kE2M1, Granularity::kGroup, 16};

QTensor round_weight(const Tensor& weight, Layout layout, bool four_over_six) {
  ThreadPool pool(1);
  Rounding rule{DType::kBF16, layout};
  rule.four_over_six = four_over_six;
  return round_to_nearest(weight, kNvfp4, rule, {}, "w", pool);
}

TEST(FourOverSix, EqualsTheGoldenBytes) {
  const GoldenTensors golden("four_over_six.safetensors");
  for (const std::string& name : golden.names(".payload")) {
    SCOPED_TRACE(name);
    const auto dot = name.find('.');
    const bool modelopt = name.substr(dot) == ".mo";
    const QTensor q = round_weight(golden[name.substr(0, dot) + ".weight"],
                                   modelopt ? Layout::kModelOpt : Layout::kCompressedTensors, true);
    EXPECT_EQ(q.global_scale, golden.values(name + ".global").front());
    EXPECT_EQ(q.inverse_global, !modelopt);
    expect_same_bytes(q.scales, golden[name + ".scales"], "scales");
    expect_same_bytes(q.payload, golden[name + ".payload"], "payload");
  }
}

TEST(FourOverSix, IsNearerThanSixAlone) {
  const GoldenTensors golden("four_over_six.safetensors");
  const Tensor weight = golden["normal.weight"];
  ThreadPool pool(1);
  const double six = weight_error(round_weight(weight, Layout::kModelOpt, false), weight, pool).relative;
  const double chosen = weight_error(round_weight(weight, Layout::kModelOpt, true), weight, pool).relative;
  EXPECT_LT(chosen, 0.97 * six);  // the paper's gain on normal weights is about a twentieth
}

TEST(FourOverSix, ChoosesByTheSquaredError) {
  // 1, .75 and .5 of the largest value: under 6 they are 6, 4.5 -> 4, 3; under 4 they are 4, 3, 2
  const float x[] = {12, 9, 6};
  EXPECT_EQ(four_over_six::squared_error(x, 3, 2), 1);
  EXPECT_EQ(four_over_six::squared_error(x, 3, 3), 0);
  EXPECT_TRUE(four_over_six::four_is_nearer(x, 3, 2, 3));
  const float exact[] = {6, 4, 2};  // both scales are exact for one value alone
  EXPECT_FALSE(four_over_six::four_is_nearer(exact, 3, 1, 1.5f));
  EXPECT_FALSE(four_over_six::four_is_nearer(x, 1, 2, 3)) << "equally near: six";
}

TEST(FourOverSix, OnlyNvfp4InBlocksOf16) {
  ThreadPool pool(1);
  Rounding rule{DType::kBF16, Layout::kModelOpt};
  rule.four_over_six = true;
  const Tensor weight = Tensor::zeros(DType::kF32, {2, 64});
  EXPECT_THROW(round_to_nearest(weight, {Element::kE2M1, Granularity::kGroup, 32}, rule, {}, "w", pool), Error);
  EXPECT_THROW(round_to_nearest(weight, {Element::kE2M1, Granularity::kGroup, 32, true}, rule, {}, "w", pool), Error);
  EXPECT_THROW(round_to_nearest(weight, {Element::kInt4, Granularity::kGroup, 32}, rule, {}, "w", pool), Error);
}

}  // namespace
}  // namespace halftone
