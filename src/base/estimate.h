#pragma once
// Means of samples that share pictures, with 95 % intervals.

#include <span>
#include <string>

#include "base/statistics.h"

namespace halftone {

// `value` is a sum over `weight` units: one answer's score (weight 1), or the nats of an answer's tokens (as many units
// as tokens).
struct Observation {
  // Observations of one cluster, such as a picture, are not independent; empty: a cluster of its own.
  std::string cluster;
  double weight = 1;
  double value = 0;
};

// sum(value) / sum(weight) with its normal 95 % interval, the variance by linearization over clusters (Cochran 1977,
// sections 6.3 and 9A: the ratio estimator of cluster sampling). Where no cluster departs from the mean, nothing was
// seen to vary: the interval is then that of the rule of three, +- 3 / clusters. With one cluster it is unbounded.
// Throws Error when there is nothing to average.
Interval ratio_with_interval(std::span<const Observation> observations);

// The same of a share: its interval cut to [0, 1], unless it is unbounded.
Interval share_with_interval(std::span<const Observation> observations);

}  // namespace halftone
