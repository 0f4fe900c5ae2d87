#include "ops/exp.h"

#include <gtest/gtest.h>

#include <cmath>

namespace halftone {
namespace {

// The exponential against the C library's in double, over the whole range.
TEST(Exp, TwoUlp) {
  for (double x = -87.3; x < 88.7; x += 0.000731) {
    const auto input = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(input));
    const float rounded = static_cast<float>(exact);
    const double ulp = std::nextafter(rounded, INFINITY) - static_cast<double>(rounded);
    ASSERT_LE(std::fabs(exponential::exp(input) - exact), 2 * ulp) << input;
  }
  EXPECT_EQ(exponential::exp(0.0f), 1.0f);
  EXPECT_EQ(exponential::exp(-INFINITY), 0.0f);
  EXPECT_EQ(exponential::exp(-104.0f), 0.0f);
  EXPECT_EQ(exponential::exp(INFINITY), INFINITY);
  EXPECT_EQ(exponential::exp(89.0f), INFINITY);
  EXPECT_TRUE(std::isnan(exponential::exp(NAN)));
}

}  // namespace
}  // namespace halftone
