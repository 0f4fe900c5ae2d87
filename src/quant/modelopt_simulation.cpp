#include "quant/modelopt_simulation.h"

#include <algorithm>
#include <cmath>

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/integer.h"
#include "quant/output_loss.h"
#include "quant/rounding_job.h"

namespace halftone {

float torch_power(float base, float exponent) {
  if (exponent == 0) return 1.0f;
  if (exponent == 1) return base;
  if (exponent == 0.5f) return std::sqrt(base);
  return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

float absmax_of(const float* x, std::int64_t n) {
  float most = 0;
  for (std::int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(x[i]));
  return most;
}

void simulate_int4(float* x, std::int64_t n, float amax, DType dtype) {
  constexpr float kMax = integer::kInt4Max, kMin = integer::kInt4Min, kZeroAmax = 0x1p-24f;
  if (amax <= kZeroAmax) {
    std::fill_n(x, n, 0.0f);
    return;
  }
  const float scale = kMax / amax;
  for (std::int64_t i = 0; i < n; ++i) {
    x[i] = round_to(dtype, std::clamp(std::nearbyint(x[i] * scale), kMin, kMax) / scale);
  }
}

void simulate_nvfp4(float* x, std::int64_t n, std::int64_t group, float amax, DType dtype) {
  const float global_scale = amax / (e2m1::kMax * e4m3::kMax);
  for (std::int64_t first = 0; first < n; first += group) {
    const std::int64_t last = std::min(n, first + group);
    const float wanted = std::min(absmax_of(x + first, last - first) / (e2m1::kMax * global_scale), e4m3::kMax);
    const float scale = e4m3::decode(e4m3::encode(wanted)) * global_scale;
    for (std::int64_t i = first; i < last; ++i) {
      x[i] = scale == 0 ? 0.0f : round_to(dtype, e2m1::decode(e2m1::encode(x[i] / scale)) * scale);
    }
  }
}

Tensor product_in(DType dtype, const Tensor& x, const Tensor& weight, const Tensor& bias, Stream& stream) {
  Tensor y = outputs_of(x, weight, bias, stream);
  for (std::int64_t i = 0; i < y.numel(); ++i) y.data<float>()[i] = round_to(dtype, y.data<float>()[i]);
  return y;
}

double row_weight(const InputStatistics& statistics, std::int64_t row) {
  if (statistics.row_weights.empty()) return 1.0 / static_cast<double>(statistics.rows.dim(0));
  return static_cast<double>(statistics.row_weights[static_cast<std::size_t>(row)]);
}

double squared_difference(const Tensor& y, const Tensor& z, std::int64_t token, DType dtype) {
  const std::int64_t outputs = y.dim(1);
  double sum = 0;
  for (std::int64_t i = token * outputs; i < (token + 1) * outputs; ++i) {
    const double d = round_to(dtype, y.data<float>()[i] - z.data<float>()[i]);
    sum += d * d;
  }
  return sum;
}

}  // namespace halftone
