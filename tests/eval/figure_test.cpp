#include "eval/figure.h"

#include <gtest/gtest.h>

#include <cmath>

namespace halftone {
namespace {

TEST(Figure, IntervalIsOfThePicturesAndInPercent) {
  const double values[] = {0, 0.3, 0.6, 0.9, 1};  // s^2 = 0.173
  std::vector<Observation> own, shared;
  for (const double value : values) {
    own.push_back({"", 1, value});
    for (int question = 0; question < 3; ++question) shared.push_back({std::to_string(value), 1, value});
  }
  const Figure figure = percent_of("", "vqav2", own);
  EXPECT_DOUBLE_EQ(figure.value, 56);
  EXPECT_EQ(figure.samples, 5);
  EXPECT_NEAR(figure.interval->high, 56 + 100 * 1.959963984540054 * std::sqrt(0.173 / 5), 1e-9);
  EXPECT_NEAR(figure.interval->low, 56 - 100 * 1.959963984540054 * std::sqrt(0.173 / 5), 1e-9);
  // three questions on each of the five pictures, answered alike, tell no more than one
  const Figure repeated = percent_of("", "vqav2", shared);
  EXPECT_EQ(repeated.samples, 15);
  EXPECT_NEAR(repeated.interval->high, figure.interval->high, 1e-9);
}

TEST(Figure, FewOrEqualSamplesAreNotSure) {
  EXPECT_FALSE(percent_of("", "accuracy", {}).interval);
  EXPECT_EQ(percent_of("", "accuracy", {}).value, 0);
  const std::vector<Observation> one_picture = {{"a", 1, 1}, {"a", 1, 0}};
  EXPECT_EQ(percent_of("", "accuracy", one_picture).value, 50);
  EXPECT_FALSE(percent_of("", "accuracy", one_picture).interval);
  // the rule of three, cut to what a share can be
  const Figure two = percent_of("", "accuracy", std::vector<Observation>(2, {"", 1, 1}));
  EXPECT_EQ(two.interval->low, 0);
  EXPECT_EQ(two.interval->high, 100);
  const Figure hundred = percent_of("", "accuracy", std::vector<Observation>(100, {"", 1, 1}));
  EXPECT_DOUBLE_EQ(hundred.interval->low, 97);
}

}  // namespace
}  // namespace halftone
