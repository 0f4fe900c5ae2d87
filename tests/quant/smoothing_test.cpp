#include "quant/smoothing.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/random.h"
#include "quant/smoothquant.h"

namespace halftone {
namespace {

std::vector<float> random_values(std::size_t n, std::uint64_t seed, double scale = 1) {
  Random random(seed);
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>((random.uniform() * 2 - 1) * scale);
  return values;
}

TEST(ChannelMap, QueryHeadsThatShareAKeyHeadShareItsChannels) {
  const ChannelMap map = grouped_head_channels(4, 2, 3);
  EXPECT_EQ(map.writer_channels, 6);
  EXPECT_THAT(map.writer_of, testing::ElementsAre(0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5));
  const std::vector<float> x{1, 2, 3, 7, 0, 4, 5, 6, 1, 1, 8, 2};
  EXPECT_THAT(combine_max(x, map), testing::ElementsAre(7, 2, 4, 5, 8, 2));
  EXPECT_THAT(combine_mean(x, map), testing::ElementsAre(4, 1, 3.5f, 3, 7, 1.5f));
  EXPECT_THAT(spread(combine_max(x, map), map), testing::ElementsAre(7, 2, 4, 7, 2, 4, 5, 8, 2, 5, 8, 2));
  EXPECT_THROW(grouped_head_channels(3, 2, 4), Error);
  EXPECT_THROW(combine_max(std::vector<float>{1, 2}, map), Error);
}

TEST(SmoothQuant, FollowsTheFormula) {
  const auto s = smoothquant_factors(std::vector<float>{16, 4, 0, 1e9f}, std::vector<float>{0.25f, 4, 3, 1e-9f}, 0.5f);
  EXPECT_THAT(s, testing::ElementsAre(8, 1, 1, 1e4f));  // sqrt(16 / .25); sqrt(4 / 4); a dead channel; the limit
  const auto inputs_only = smoothquant_factors(std::vector<float>{16, 4}, std::vector<float>{2, 3}, 1.0f);
  EXPECT_THAT(inputs_only, testing::ElementsAre(16, 4));
  const auto weights_only = smoothquant_factors(std::vector<float>{16, 4}, std::vector<float>{0.5f, 0.25f}, 0.0f);
  EXPECT_THAT(weights_only, testing::ElementsAre(2, 4));
  EXPECT_THROW(smoothquant_factors(std::vector<float>{1}, std::vector<float>{1, 2}, 0.5f), Error);
}

TEST(SmoothQuant, EvensOutInputsAndWeights) {
  // with alpha = 0.5 both sides get the same largest magnitude in every channel: sqrt(x w)
  const std::vector<float> x{100, 3, 0.5f}, w{0.01f, 0.2f, 0.7f};
  const auto s = smoothquant_factors(x, w, 0.5f);
  for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(x[c] / s[c], w[c] * s[c], 1e-6 * x[c]) << c;
}

// attention's value path: o(v(x)) with two query heads for each key head, before and after folding
TEST(Folding, KeepsTheFunctionOfTheValuePath) {
  constexpr std::int64_t kIn = 5, kHeads = 4, kKv = 2, kDim = 3, kOut = 7;
  const ChannelMap map = grouped_head_channels(kHeads, kKv, kDim);
  Tensor v = Tensor::from(random_values(kKv * kDim * kIn, 1), {kKv * kDim, kIn});
  Tensor bias = Tensor::from(random_values(kKv * kDim, 2), {kKv * kDim});
  Tensor o = Tensor::from(random_values(kOut * kHeads * kDim, 3), {kOut, kHeads * kDim});
  const std::vector<float> x = random_values(kIn, 4);
  const auto run = [&] {
    std::vector<double> y(kOut);
    for (std::int64_t c = 0; c < kHeads * kDim; ++c) {
      const std::int64_t w = map.writer_of[static_cast<std::size_t>(c)];
      double value = bias.data<float>()[w];
      for (std::int64_t i = 0; i < kIn; ++i)
        value += double(v.data<float>()[w * kIn + i]) * x[static_cast<std::size_t>(i)];
      for (std::int64_t r = 0; r < kOut; ++r)
        y[static_cast<std::size_t>(r)] += o.data<float>()[r * kHeads * kDim + c] * value;
    }
    return y;
  };
  const auto before = run();
  const auto s = smoothquant_factors(random_values(6, 5, 9), combine_max(column_absmax(o), map), 0.5f);
  multiply_columns(spread(s, map), o);
  divide_rows(s, v);
  divide_rows(s, bias);
  const auto after = run();
  for (std::size_t r = 0; r < kOut; ++r) EXPECT_NEAR(after[r], before[r], 1e-5) << r;  // some 30 f32 roundings of O(1)
}

TEST(SnapFactors, WhatIsStoredUndoesTheFactorExactly) {
  const std::vector<float> values = random_values(200, 6);
  const Tensor norm = to_f32(from_f32(Tensor::from(values, {200}), DType::kBF16));
  std::vector<float> factors(200);
  for (std::size_t c = 0; c < 200; ++c) factors[c] = std::exp(random_values(1, 100 + c, 3)[0]);
  const std::vector<float> wanted = factors;
  snap_factors(norm, DType::kBF16, factors);
  Tensor folded = norm.clone();
  divide_rows(factors, folded);
  const Tensor stored = to_f32(from_f32(folded, DType::kBF16));
  for (std::size_t c = 0; c < 200; ++c) {
    EXPECT_NEAR(factors[c], wanted[c], wanted[c] * 0x1p-8) << c;
    // the quotient was rounded to f32 once, the product is, too
    EXPECT_NEAR(stored.data<float>()[c] * factors[c], norm.data<float>()[c], std::abs(norm.data<float>()[c]) * 0x1p-23);
  }
}

TEST(SnapFactors, LeavesImpossibleChannelsAlone) {
  std::vector<float> factors{2, 1e4f, 3};
  snap_factors(Tensor::from({0, 1e-38f, 1}, {3}), DType::kBF16, factors);
  EXPECT_EQ(factors[0], 2);
  EXPECT_NEAR(factors[1], 1e4f, 1e4f * 0x1p-7f);
  EXPECT_NEAR(factors[2], 3, 3 * 0x1p-8f);
}

}  // namespace
}  // namespace halftone
