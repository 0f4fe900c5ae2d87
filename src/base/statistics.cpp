#include "base/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace halftone {
namespace {

std::vector<double> sorted(std::span<const double> values) {
  require(!values.empty(), "statistics", "expected at least one value, found none");
  std::vector<double> copy(values.begin(), values.end());
  std::sort(copy.begin(), copy.end());
  return copy;
}

double quantile_of_sorted(const std::vector<double>& values, double p) {
  const double place = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

// The largest k such that fewer than k of n fair coins fall heads with a probability of at most 2.5 %; at least 1.
std::size_t rank_of_lower_bound(std::size_t n) {
  const auto count = static_cast<double>(n);
  double below = 0;
  for (std::size_t k = 0;; ++k) {
    const auto heads = static_cast<double>(k);
    below += std::exp(std::lgamma(count + 1) - std::lgamma(heads + 1) - std::lgamma(count - heads + 1) -
                      count * std::log(2.0));
    if (below > 0.025) return std::max<std::size_t>(k, 1);
  }
}

}  // namespace

double quantile(std::span<const double> values, double p) {
  require(p >= 0 && p <= 1, "statistics", "expected a quantile from 0 to 1, found {}", p);
  return quantile_of_sorted(sorted(values), p);
}

Interval median_with_interval(std::span<const double> values) {
  const std::vector<double> ordered = sorted(values);
  const std::size_t rank = rank_of_lower_bound(ordered.size());
  return {quantile_of_sorted(ordered, 0.5), ordered[rank - 1], ordered[ordered.size() - rank]};
}

}  // namespace halftone
