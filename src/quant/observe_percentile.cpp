#include "base/error.h"
#include "quant/observer.h"

namespace halftone {

// cdf = cumsum(counts / total); amax = edges[searchsorted(cdf, percentile / 100)], all in double as numpy has it.
float percentile_amax(const Histogram& histogram, double percentile) {
  require(percentile > 0 && percentile <= 100, "percentile", "expected above 0 to 100, got {}", percentile);
  const auto total = static_cast<double>(histogram.total());
  double cdf = 0;
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    cdf += static_cast<double>(histogram.counts[i]) / total;
    if (cdf >= percentile / 100) return histogram.edge(i);
  }
  return histogram.edge(histogram.counts.size());  // rounding left the sum just below 1
}

}  // namespace halftone
