#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "quant/observer.h"

namespace halftone {
namespace {

constexpr std::size_t kLevels = 128;  // of INT8, the sign apart
constexpr std::size_t kFirst = 128;   // bins that are kept at least

// Which of kLevels equal parts of [0, n) each bin falls into: the number of edges k * (n / kLevels) at or below it,
// minus one.
std::vector<std::size_t> levels_of_bins(std::size_t n) {
  const double step = static_cast<double>(n) / static_cast<double>(kLevels);
  std::vector<std::size_t> levels(n);
  std::size_t level = 0;
  for (std::size_t i = 0; i < n; ++i) {
    while (level + 1 < kLevels && static_cast<double>(level + 1) * step <= static_cast<double>(i)) ++level;
    levels[i] = level;
  }
  return levels;
}

// sum p log(p / q) of two sets of counts, each divided by its sum; infinite where q has none of what p has.
double divergence(const std::vector<double>& p, const std::vector<double>& q) {
  const double sum_p = std::accumulate(p.begin(), p.end(), 0.0), sum_q = std::accumulate(q.begin(), q.end(), 0.0);
  double total = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) continue;
    if (q[i] == 0) return std::numeric_limits<double>::infinity();
    total += p[i] / sum_p * std::log(p[i] / sum_p / (q[i] / sum_q));
  }
  return total;
}

// The first n bins against the same after rounding to kLevels, what lies above them clipped to the last.
double loss_of(const std::vector<double>& bins, std::size_t n, double above) {
  const std::vector<std::size_t> levels = levels_of_bins(n);
  std::vector<double> sums(kLevels), members(kLevels);
  for (std::size_t i = 0; i < n; ++i) {
    if (bins[i] == 0) continue;
    sums[levels[i]] += bins[i];
    ++members[levels[i]];
  }
  std::vector<double> reference(bins.begin(), bins.begin() + static_cast<std::ptrdiff_t>(n)), rounded(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (bins[i] != 0) rounded[i] = sums[levels[i]] / members[levels[i]];
  }
  reference.back() += above;
  return divergence(reference, rounded);
}

}  // namespace

// The last of the best numbers of bins, as ModelOpt's; the first bin counts as the second one does, so that zeros do
// not decide.
float entropy_amax(const Histogram& histogram, ThreadPool& pool) {
  std::vector<double> bins(histogram.counts.begin(), histogram.counts.end());
  bins[0] = bins[1];
  // counts are whole numbers, so that these sums are exact in any order
  std::vector<double> above(bins.size() + 1);
  for (std::size_t n = bins.size(); n-- > 0;) above[n] = above[n + 1] + bins[n];
  std::vector<double> losses(bins.size() + 1, std::numeric_limits<double>::infinity());
  pool.parallel_for(std::ssize(bins) + 1 - static_cast<std::int64_t>(kFirst), [&](std::int64_t i) {
    const std::size_t n = kFirst + static_cast<std::size_t>(i);
    losses[n] = loss_of(bins, n, above[n]);
  });
  double best = std::numeric_limits<double>::infinity();
  std::size_t chosen = bins.size();
  for (std::size_t n = kFirst; n <= bins.size(); ++n) {
    if (losses[n] <= best) {
      best = losses[n];
      chosen = n;
    }
  }
  return histogram.edge(chosen);
}

}  // namespace halftone
