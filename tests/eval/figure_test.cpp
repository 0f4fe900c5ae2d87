#include "eval/figure.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace halftone {
namespace {

// Limits by SciPy's binomtest(k, n).proportion_ci(method="wilson").
TEST(Figure, WilsonInterval) {
  const Figure half = percent_of("", "accuracy", 5, 10);
  EXPECT_EQ(half.value, 50);
  EXPECT_NEAR(half.interval->low, 23.6593, 5e-5);
  EXPECT_NEAR(half.interval->high, 76.3407, 5e-5);
  const Figure none = percent_of("", "accuracy", 0, 10);
  EXPECT_EQ(none.interval->low, 0);
  EXPECT_NEAR(none.interval->high, 27.7533, 5e-5);
  EXPECT_FALSE(percent_of("", "accuracy", 0, 0).interval);
}

TEST(Figure, NormalIntervalOfAMean) {
  const double values[] = {0, 0.3, 0.6, 0.9, 1};  // s^2 = 0.173
  const Figure figure = percent_mean("", "vqav2", values);
  EXPECT_DOUBLE_EQ(figure.value, 56);
  EXPECT_NEAR(figure.interval->high, 56 + 100 * 1.959963984540054 * std::sqrt(0.173 / 5), 1e-9);
  EXPECT_NEAR(figure.interval->low, 56 - 100 * 1.959963984540054 * std::sqrt(0.173 / 5), 1e-9);
}

TEST(Figure, MeanOverTokensTakesSamplesAsIndependent) {
  const TokenSum equal[] = {{1, 1}, {3, 1}, {2, 1}};  // one token each: the standard error of a plain mean
  const Figure figure = mean_over_tokens("", "kl", equal);
  EXPECT_DOUBLE_EQ(figure.value, 2);
  EXPECT_NEAR(figure.interval->high - 2, 1.959963984540054 * std::sqrt(1.0 / 3), 1e-12);
  // Tokens of one sample that repeat each other tell no more than one of them.
  const TokenSum repeated[] = {{10, 10}, {30, 10}, {20, 10}};
  EXPECT_NEAR(mean_over_tokens("", "kl", repeated).interval->high - 2, figure.interval->high - 2, 1e-12);
  EXPECT_THROW(mean_over_tokens("", "kl", {}), Error);
}

}  // namespace
}  // namespace halftone
