#include "base/statistics.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/error.h"

namespace halftone {
namespace {

TEST(Quantile, InterpolatesAsNumpyDoes) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 3.7);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 4);
  EXPECT_THROW(quantile({}, 0.5), Error);
  EXPECT_THROW(quantile(values, 1.5), Error);
}

TEST(MedianWithInterval, TakesTheRanksOfTheSignTest) {
  // Ranks from the table of the sign test: 6 -> 1, 10 -> 2, 30 -> 10, 100 -> 40.
  for (const auto& [n, rank] : std::vector<std::pair<int, int>>{{1, 1}, {6, 1}, {10, 2}, {30, 10}, {100, 40}}) {
    std::vector<double> values(static_cast<std::size_t>(n));
    std::iota(values.begin(), values.end(), 1.0);
    const Interval median = median_with_interval(values);
    EXPECT_DOUBLE_EQ(median.value, (n + 1) / 2.0);
    EXPECT_DOUBLE_EQ(median.low, rank) << n;
    EXPECT_DOUBLE_EQ(median.high, n + 1 - rank) << n;
  }
}

}  // namespace
}  // namespace halftone
