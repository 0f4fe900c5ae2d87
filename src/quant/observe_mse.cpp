#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "formats/e4m3.h"
#include "quant/observer.h"

namespace halftone {
namespace {

constexpr std::size_t kFirst = 128;  // the first bin that may be the largest

// ModelOpt's fake quantization: q = clamp(rint(x * (bound / amax)), -128, 127), x' = q / (bound / amax).
float round_int8(float x, float amax) {
  const float scale = 127.0f / amax;
  return std::min(std::nearbyint(x * scale), 127.0f) / scale;
}

// e4m3(clamp(x * (448 / amax))) * (1 / (448 / amax))
float round_e4m3(float x, float amax) {
  const float scale = e4m3::kMax / amax;
  return e4m3::decode(e4m3::encode_saturated(x * scale)) * (1.0f / scale);
}

}  // namespace

float mse_amax(const Histogram& histogram, InputQuant::Kind input, ThreadPool& pool) {
  const bool int8 = input == InputQuant::Kind::kStaticInt8;
  require(int8 || input == InputQuant::Kind::kStaticE4M3, "mse", "expected INT8 or E4M3 inputs");
  std::vector<float> centers(histogram.counts.size());
  for (std::size_t i = 0; i < centers.size(); ++i) centers[i] = (histogram.edge(i + 1) + histogram.edge(i)) / 2;
  std::vector<double> losses(centers.size(), std::numeric_limits<double>::infinity());
  pool.parallel_for(std::ssize(centers) - static_cast<std::int64_t>(kFirst), [&](std::int64_t n) {
    const std::size_t i = kFirst + static_cast<std::size_t>(n);
    double loss = 0;
    for (std::size_t k = 0; k < centers.size(); ++k) {
      if (histogram.counts[k] == 0) continue;
      const float rounded = int8 ? round_int8(centers[k], centers[i]) : round_e4m3(centers[k], centers[i]);
      const double error = static_cast<double>(rounded) - centers[k];
      loss += error * error * static_cast<double>(histogram.counts[k]);
    }
    losses[i] = loss;
  });
  double best = std::numeric_limits<double>::infinity();
  float chosen = centers.back();
  for (std::size_t i = kFirst; i < centers.size(); ++i) {
    if (losses[i] < best) {
      best = losses[i];
      chosen = centers[i];
    }
  }
  return chosen;
}

}  // namespace halftone
