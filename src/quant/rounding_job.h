#pragma once
// What the families of formats share while a weight is rounded.

#include <bit>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "ops/round_values.h"
#include "quant/round_to_nearest.h"

namespace halftone {

struct RoundingJob {
  const Tensor& weight;  // [rows, cols] f32, bf16 or f16
  Layout layout;
  DType dtype;
  DType quotients;
  float amax;  // of all matrices that share one scale; 0 where the format needs none
  std::string_view name;
  ThreadPool& pool;
  bool four_over_six = false;
  std::span<const float> limits{};

  bool compressed_tensors() const { return layout == Layout::kCompressedTensors; }
  // Calls task(row, values [cols] f32) once for each row, in parallel.
  void for_rows(const std::function<void(std::int64_t, const float*)>& task) const;
  // The largest magnitude of values of a row. Throws Error for NaN and infinity.
  float magnitude(const float* x, std::int64_t n, std::int64_t row) const;
};

// Rounds to kF32 (not at all), kBF16 or kF16.
float round_to(DType dtype, float x);
// What compressed-tensors puts in the place of a scale of 0.
float epsilon_of(DType dtype);
// torch.finfo(dtype).tiny.
inline float smallest_normal(DType dtype) {
  return dtype == DType::kF16 ? 0x1p-14f : std::numeric_limits<float>::min();
}
// compressed-tensors' global scale of NVFP4: product (2688) / the largest magnitude; 1 where that is 0.
float nvfp4_divisor(float amax, float product, DType dtype);
void store_scale(Tensor& scales, std::int64_t i, float scale);
// Consecutive columns under one scale.
std::int64_t group_of(const QTensor& q);
// Stores a row of codes, one a byte, as the payload has them.
void store_codes(QTensor& q, std::int64_t row, const std::uint8_t* codes);

// The families. q has spec, shape, an uninitialized payload and scales (and zeros).
void round_integer_format(const RoundingJob& job, QTensor& q);
void round_e4m3_format(const RoundingJob& job, QTensor& q);
void round_nvfp4_format(const RoundingJob& job, QTensor& q);
void round_mx_format(const RoundingJob& job, QTensor& q);

}  // namespace halftone
