#include "base/statistics.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace halftone {
namespace {

double percentile_of_sorted(const std::vector<double>& sorted, double percent) {
  const double rank = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(rank);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

// The largest k with P(Binomial(n, 1/2) < k) <= 2.5 %: the k-th smallest and k-th largest value enclose the median with
// at least 95 %. 0 when n is too small for that.
std::int64_t median_interval_rank(std::int64_t n) {
  const auto log_choose = [n](std::int64_t k) {
    const auto real = [](std::int64_t x) { return static_cast<double>(x); };
    return std::lgamma(real(n) + 1) - std::lgamma(real(k) + 1) - std::lgamma(real(n - k) + 1);
  };
  double below = 0;
  for (std::int64_t k = 0;; ++k) {
    below += std::exp(log_choose(k) - static_cast<double>(n) * std::log(2.0));
    if (below > 0.025) return k;
  }
}

}  // namespace

double percentile(std::vector<double> values, double percent) {
  require(!values.empty(), "percentile", "expected at least one value");
  std::sort(values.begin(), values.end());
  return percentile_of_sorted(values, percent);
}

Summary summarize(std::vector<double> values) {
  require(!values.empty(), "summarize", "expected at least one value");
  std::sort(values.begin(), values.end());
  Summary summary;
  summary.count = static_cast<std::int64_t>(values.size());
  summary.median = percentile_of_sorted(values, 50);
  summary.p90 = percentile_of_sorted(values, 90);
  summary.p99 = percentile_of_sorted(values, 99);
  summary.minimum = values.front();
  summary.maximum = values.back();
  const auto k = static_cast<std::size_t>(median_interval_rank(summary.count));
  summary.median_low = k == 0 ? values.front() : values[k - 1];
  summary.median_high = k == 0 ? values.back() : values[values.size() - k];
  return summary;
}

}  // namespace halftone
