#pragma once
// Figures that a task reports, and their intervals.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/estimate.h"
#include "base/json.h"

namespace halftone {

// "f1" of "random", "score" of "existence".
struct Figure {
  std::string group;   // empty: the whole task
  std::string metric;  // what it is; each scorer's header lists its own
  double value = 0;    // as the benchmark prints it, unrounded: percent, points, ...
  std::int64_t samples = 0;
  std::optional<Interval> interval;  // 95 %
};

// 100 * sum(value) / sum(weight) with share_with_interval()'s interval, as a study's report has it: samples on one
// picture are not independent. `samples` counts the observations. Nothing observed gives 0 without interval, and one
// picture no interval either.
Figure percent_of(std::string group, std::string metric, std::span<const Observation> observations);

Json to_json(const Figure& figure);

}  // namespace halftone
