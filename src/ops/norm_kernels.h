#pragma once
// What the references and the kernels of the normalizations share. The sums of a row run in double, in eight
// interleaved parts that are then added in order, so that kernels of any vector length give the same bits.

#include <cmath>

#include "ops/norm.h"

namespace halftone {

// Column c of a row is added to part c mod kNormParts.
constexpr std::int64_t kNormParts = 8;

inline double sum_norm_parts(const double* parts) {
  double sum = 0;
  for (std::int64_t i = 0; i < kNormParts; ++i) sum += parts[i];
  return sum;
}

// 1 / sqrt(squares / cols + eps)
inline float inverse_norm(double squares, std::int64_t cols, float eps) {
  return static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(eps)));
}

// One row in scalar arithmetic.  x, w, b, y: [cols], y may be x.
void rms_norm_row_reference(const float* x, const float* w, std::int64_t cols, float eps, Numerics numerics, float* y);
void layer_norm_row_reference(const float* x, const float* w, const float* b, std::int64_t cols, float eps,
                              Numerics numerics, float* y);

// The CPU's rows: the bits of the references.
void rms_norm_row_cpu(const float* x, const float* w, std::int64_t cols, float eps, Numerics numerics, float* y);
void layer_norm_row_cpu(const float* x, const float* w, const float* b, std::int64_t cols, float eps, Numerics numerics,
                        float* y);

}  // namespace halftone
