#include "base/estimate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"

namespace halftone {
namespace {

constexpr double kZ = 1.959963984540054;

TEST(RatioWithInterval, EqualsTheMeanOfIndependentSamples) {
  const std::vector<Observation> samples = {{"", 1, 1}, {"", 1, 0}, {"", 1, 1}, {"", 1, 1}};
  const Interval mean = ratio_with_interval(samples);
  EXPECT_DOUBLE_EQ(mean.value, 0.75);
  // Sample standard deviation 0.5, n = 4.
  EXPECT_NEAR(mean.high - mean.value, kZ * 0.5 / 2, 1e-15);
  EXPECT_NEAR(mean.value - mean.low, kZ * 0.5 / 2, 1e-15);
}

TEST(RatioWithInterval, TakesSamplesOfOnePictureAsOne) {
  const std::vector<Observation> pictures = {{"a", 1, 1}, {"b", 1, 0}, {"c", 1, 1}};
  std::vector<Observation> doubled = pictures;
  doubled.insert(doubled.end(), pictures.begin(), pictures.end());
  // The same three pictures asked twice with the same result tell nothing new.
  EXPECT_NEAR(ratio_with_interval(doubled).high, ratio_with_interval(pictures).high, 1e-15);
}

TEST(RatioWithInterval, WeighsByTokens) {
  const std::vector<Observation> sums = {{"", 3, 0.3}, {"", 1, 0.3}};
  const Interval mean = ratio_with_interval(sums);
  EXPECT_DOUBLE_EQ(mean.value, 0.15);
  // Residuals -0.15 and 0.15, two clusters, weight 4.
  EXPECT_NEAR(mean.high - mean.value, kZ * std::sqrt(2 * 0.045) / 4, 1e-15);
}

TEST(RatioWithInterval, NeverClaimsCertainty) {
  const Interval equal = ratio_with_interval(std::vector<Observation>(100, {"", 1, 0}));
  EXPECT_DOUBLE_EQ(equal.high, 0.03);
  EXPECT_TRUE(std::isinf(ratio_with_interval(std::vector<Observation>{{"a", 1, 1}, {"a", 1, 0}}).high));
  EXPECT_THROW(ratio_with_interval({}), Error);
}

}  // namespace
}  // namespace halftone
