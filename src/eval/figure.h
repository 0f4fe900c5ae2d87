#pragma once
// Figures that a task reports, and their intervals.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/statistics.h"

namespace halftone {

// "f1" of "random", "score" of "existence".
struct Figure {
  std::string group;   // empty: the whole task
  std::string metric;  // what it is; each scorer's header lists its own
  double value = 0;    // as the benchmark prints it, unrounded: percent, points, ...
  std::int64_t samples = 0;
  std::optional<Interval> interval;  // 95 %
  std::string method;                // of the interval: "Wilson", "normal", "normal, clustered by sample"
};

// 100 * hits / n with Wilson's score interval (Wilson 1927). n = 0 gives 0 without interval. Samples that share a
// picture are taken as independent; a comparison that must not do so works on the stored samples.
Figure percent_of(std::string group, std::string metric, std::int64_t hits, std::int64_t n);

// 100 * the mean of values in [0, 1] with the interval mean +- 1.96 s / sqrt(n), cut to [0, 100]; none for n < 2.
Figure percent_mean(std::string group, std::string metric, std::span<const double> values);

// A sum of `tokens` over the whole by sample, for a mean over tokens.
struct TokenSum {
  double sum = 0;
  std::int64_t tokens = 0;
};

// sum / tokens over all samples with the ratio estimator's interval: samples, not tokens, are independent.
// Throws Error when there are no tokens.
Figure mean_over_tokens(std::string group, std::string metric, std::span<const TokenSum> samples);

Json to_json(const Figure& figure);

}  // namespace halftone
