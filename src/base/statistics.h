#pragma once
// What a list of repeated measurements says.

#include <cstdint>
#include <vector>

namespace halftone {

// A figure with its 95 % interval.
struct Interval {
  double value = 0, low = 0, high = 0;
};

struct Summary {
  std::int64_t count = 0;
  double median = 0, p90 = 0, p99 = 0, minimum = 0, maximum = 0;
  // 95 % interval of the median, from order statistics (binomial, distribution-free); with fewer than 6 values the
  // whole range, which then covers less than 95 %.
  double median_low = 0, median_high = 0;
};

// Percentile by linear interpolation between the closest ranks, as numpy.percentile does. `values` must not be empty.
double percentile(std::vector<double> values, double percent);
// Throws Error on an empty list.
Summary summarize(std::vector<double> values);

}  // namespace halftone
