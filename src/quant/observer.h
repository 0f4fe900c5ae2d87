#pragma once
// Observers turn what calibration saw of an input into the largest magnitude that its static scale is made for: what
// lies above is clipped. Pure functions of statistics; one file each.
//
//   max         the largest |x|: nothing is clipped
//   percentile  the lower edge of the bin in which `percentile` percent of all values are reached
//   entropy     the edge at which the distribution, rounded to 128 levels, is nearest by Kullback-Leibler divergence
//   mse         the middle of the bin at which rounding all values loses the least squared error
//
// The last three read the histogram, with ModelOpt's arithmetic and its defaults (2048 bins, search from bin 128).
// Source: modelopt/torch/quantization/calib/{max,histogram}.py.

#include <string>
#include <string_view>

#include "base/thread_pool.h"
#include "quant/statistics.h"
#include "tensor/qtensor.h"

namespace halftone {

struct Observer {
  enum class Kind : std::uint8_t { kMax, kPercentile, kEntropy, kMse };
  Kind kind = Kind::kMax;
  double percentile = 99.99;  // kPercentile: above 0, at most 100
  bool operator==(const Observer&) const = default;
};

// "max", "percentile", "entropy", "mse". Throws Error("[source] ...") listing them.
Observer::Kind observer_from_name(std::string_view name, std::string_view source);
std::string_view to_string(Observer::Kind kind);

// Whether the observer knows how inputs of this kind are rounded: entropy knows INT8, mse INT8 and E4M3; max and
// percentile need not know. Inputs without a static scale have no observer.
bool observes(Observer::Kind observer, InputQuant::Kind input);

// At most statistics.tensor_absmax(); 0 for inputs that were all 0, else above 0. Throws Error for statistics without a
// histogram, which only kMax can do without.
float observed_amax(const Observer& observer, const InputStatistics& statistics, InputQuant::Kind input,
                    ThreadPool& pool);

// The files behind it. histogram: width > 0. The last two try every bin, each over all bins, in parallel; the result does
// not depend on the number of threads.
float percentile_amax(const Histogram& histogram, double percentile);
float entropy_amax(const Histogram& histogram, ThreadPool& pool);
float mse_amax(const Histogram& histogram, InputQuant::Kind input, ThreadPool& pool);

}  // namespace halftone
