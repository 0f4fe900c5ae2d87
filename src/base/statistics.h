#pragma once
// Order statistics of repeated measurements.

#include <span>

namespace halftone {

// A figure with its 95 % interval.
struct Interval {
  double value = 0, low = 0, high = 0;
};

// The p-quantile, 0 <= p <= 1, by linear interpolation between order statistics (Hyndman and Fan 1996, type 7: NumPy's
// and R's default). Throws Error when there are no values.
double quantile(std::span<const double> values, double p);

// The median and its 95 % interval: the order statistics that enclose it whatever the distribution is (binomial with
// p = 1/2; at least 95 % when there are six values or more, and the whole range below that).
Interval median_with_interval(std::span<const double> values);

}  // namespace halftone
