#include "quant/observer.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"

namespace halftone {
namespace {

// in the order of the enumeration
constexpr std::string_view kNames[] = {"max", "percentile", "entropy", "mse"};

float from_histogram(const Observer& observer, const Histogram& histogram, InputQuant::Kind input, ThreadPool& pool) {
  switch (observer.kind) {
    case Observer::Kind::kPercentile:
      return percentile_amax(histogram, observer.percentile);
    case Observer::Kind::kEntropy:
      return entropy_amax(histogram, pool);
    default:
      return mse_amax(histogram, input, pool);
  }
}

}  // namespace

Observer::Kind observer_from_name(std::string_view name, std::string_view source) {
  const auto it = std::find(std::begin(kNames), std::end(kNames), name);
  require(it != std::end(kNames), source, "field 'observer': expected {}, found '{}'", fmt::join(kNames, ", "), name);
  return static_cast<Observer::Kind>(it - std::begin(kNames));
}

std::string_view to_string(Observer::Kind kind) { return kNames[static_cast<std::size_t>(kind)]; }

bool observes(Observer::Kind observer, InputQuant::Kind input) {
  switch (observer) {
    case Observer::Kind::kEntropy:
      return input == InputQuant::Kind::kStaticInt8;
    case Observer::Kind::kMse:
      return input == InputQuant::Kind::kStaticInt8 || input == InputQuant::Kind::kStaticE4M3;
    default:
      return true;
  }
}

float observed_amax(const Observer& observer, const InputStatistics& statistics, InputQuant::Kind input,
                    ThreadPool& pool) {
  const float most = statistics.tensor_absmax();
  if (observer.kind == Observer::Kind::kMax || most == 0) return most;
  require(!statistics.histogram.counts.empty(), "observer",
          "{} needs a histogram of the inputs, which statistics from a file do not hold: use calibration data, or max",
          to_string(observer.kind));
  require(observes(observer.kind, input), "observer", "{} does not know how these inputs are rounded",
          to_string(observer.kind));
  // The last edge may lie above what was seen. 0, the lower edge of the first bin, would clip everything away: where
  // nearly all values lie in that bin, as beside huge outliers, ModelOpt does so, and this does not.
  const float found = from_histogram(observer, statistics.histogram, input, pool);
  return std::min(most, std::max(found, statistics.histogram.edge(1)));
}

}  // namespace halftone
