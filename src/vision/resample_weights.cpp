#include "vision/resample_weights.h"

#include <algorithm>
#include <cmath>

namespace halftone {
namespace {

// Keys' cubic convolution with a = -0.5, as a polynomial in Horner form.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

std::int32_t to_fixed_point(double weight) {
  return static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kWeightBits));
}

}  // namespace

BicubicWeights bicubic_weights(std::int64_t input_size, std::int64_t output_size) {
  const double scale = static_cast<double>(input_size) / static_cast<double>(output_size);
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  const double inverse_filter_scale = 1.0 / filter_scale;

  BicubicWeights result;
  result.stride = static_cast<std::int64_t>(std::ceil(support)) * 2 + 1;
  result.windows.resize(static_cast<std::size_t>(output_size));
  result.weights.resize(static_cast<std::size_t>(output_size * result.stride));
  std::vector<double> window(static_cast<std::size_t>(result.stride));
  for (std::int64_t output = 0; output < output_size; ++output) {
    const double center = (static_cast<double>(output) + 0.5) * scale;
    const std::int64_t first = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const std::int64_t last = std::min(static_cast<std::int64_t>(center + support + 0.5), input_size);
    double sum = 0;
    for (std::int64_t i = 0; i < last - first; ++i) {
      const double weight = bicubic((static_cast<double>(i + first) - center + 0.5) * inverse_filter_scale);
      window[static_cast<std::size_t>(i)] = weight;
      sum += weight;
    }
    result.windows[static_cast<std::size_t>(output)] = {first, last - first};
    for (std::int64_t i = 0; i < last - first; ++i) {
      const double weight = window[static_cast<std::size_t>(i)];
      result.weights[static_cast<std::size_t>(output * result.stride + i)] =
          to_fixed_point(sum != 0 ? weight / sum : weight);
    }
  }
  return result;
}

}  // namespace halftone
