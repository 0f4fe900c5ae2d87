#include "base/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"

namespace halftone {
namespace {

TEST(Summary, PercentilesInterpolateAsNumpy) {
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4}, 50), 2.5);
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 90), 3.7);  // numpy.percentile([1, 2, 3, 4], 90)
  EXPECT_DOUBLE_EQ(percentile({7}, 99), 7);
}

TEST(Summary, MedianIntervalFromOrderStatistics) {
  std::vector<double> values(30);
  std::iota(values.begin(), values.end(), 1.0);
  const Summary s = summarize(values);
  EXPECT_EQ(s.count, 30);
  EXPECT_DOUBLE_EQ(s.median, 15.5);
  EXPECT_DOUBLE_EQ(s.median_low, 10);  // the tabulated ranks for n = 30 at 95 %: 10 and 21
  EXPECT_DOUBLE_EQ(s.median_high, 21);
}

TEST(Summary, MedianIntervalOfVeryManyValues) {
  std::vector<double> values(4000);
  std::iota(values.begin(), values.end(), 1.0);
  EXPECT_NEAR(summarize(values).median_low, 2000.5 - 1.96 * 0.5 * std::sqrt(4000.0), 1);  // the normal approximation
}

TEST(Summary, FewValuesGiveTheirRange) {
  const Summary s = summarize({3, 1, 2});
  EXPECT_DOUBLE_EQ(s.median_low, 1);
  EXPECT_DOUBLE_EQ(s.median_high, 3);
  EXPECT_THROW(summarize({}), Error);
}

}  // namespace
}  // namespace halftone
