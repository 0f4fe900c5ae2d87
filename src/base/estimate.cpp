#include "base/estimate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"

namespace halftone {
namespace {

constexpr double kNormal975 = 1.959963984540054;

struct ClusterSum {
  double weight = 0, value = 0;
};

std::map<std::string, ClusterSum> sum_clusters(std::span<const Observation> observations) {
  std::map<std::string, ClusterSum> clusters;
  std::size_t lonely = 0;
  for (const Observation& o : observations) {
    // A name that no hash can be.
    ClusterSum& cluster = clusters[o.cluster.empty() ? "#" + std::to_string(lonely++) : o.cluster];
    cluster.weight += o.weight;
    cluster.value += o.value;
  }
  return clusters;
}

}  // namespace

Interval ratio_with_interval(std::span<const Observation> observations) {
  double weight = 0, value = 0;
  for (const Observation& o : observations) {
    weight += o.weight;
    value += o.value;
  }
  require(weight > 0, "estimate", "expected samples to average over, found none");
  const double ratio = value / weight;
  const auto clusters = sum_clusters(observations);
  const auto count = static_cast<double>(clusters.size());
  if (clusters.size() < 2) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return {ratio, -kInfinity, kInfinity};
  }
  double squares = 0, largest = 0;
  for (const auto& [name, cluster] : clusters) {
    const double residual = cluster.value - ratio * cluster.weight;
    squares += residual * residual;
    largest = std::max(largest, std::abs(residual));
  }
  // Residuals of equal observations are zero up to the rounding of the mean.
  const double rounding = 1e-12 * (std::abs(ratio) + std::numeric_limits<double>::min()) * weight;
  const double half = largest <= rounding ? 3 / count : kNormal975 * std::sqrt(squares * count / (count - 1)) / weight;
  return {ratio, ratio - half, ratio + half};
}

Interval share_with_interval(std::span<const Observation> observations) {
  const Interval ratio = ratio_with_interval(observations);
  if (std::isinf(ratio.high)) return ratio;
  return {ratio.value, std::max(ratio.low, 0.0), std::min(ratio.high, 1.0)};
}

}  // namespace halftone
