#pragma once
// The ops of a vision tower beside its products and its attention, with the rounding points of Numerics::kBF16. Matrices are
// bf16 unless a line says otherwise, their columns a multiple of 8, their rows begin at multiples of 16 bytes. Each throws
// Error("[cuda NAME] ...") when shapes, dtypes or alignments do not fit.

#include "backend/cuda/device_matrix.h"
#include "backend/cuda/launch.h"

namespace halftone::cuda {

// x = bf16(x + added), where something is added, then y = LayerNorm(x) as ops/norm.h: the residual and the norm after it in one
// pass over x. Up to 2048 columns.
// Sums in f32, each in an order that the number of columns decides. Error: y is within one bf16 step of the CPU's, and
// 2^-18 |bias| more where bias and product cancel; x has the CPU's bits.
struct LayerNorm {
  DeviceMatrix x;                                  // [rows, cols]
  DeviceMatrix added;                              // [rows, cols] or without data
  const float *weight = nullptr, *bias = nullptr;  // [cols], at multiples of 16 bytes
  float eps = 0.0f;
  DeviceMatrix y;  // [rows, cols]; it may be `added`
};
void layer_norm(const LayerNorm& call, const Launch& launch);

// ops/elementwise.h, in place. Error: the sigmoid, or the result, is within one bf16 step of the CPU's.
void quick_gelu(const DeviceMatrix& x, const Launch& launch);
void gelu_erf(const DeviceMatrix& x, const Launch& launch);

// ops/rope.h in f32, the result rounded once: the CPU's bits, in place.  x: [rows, heads head_dim], cos, sin:
// [rows, head_dim / 2] f32, at multiples of 16 bytes; head_dim is a multiple of 8.
void rotate_heads(const DeviceMatrix& x, std::int64_t heads, const float* cos, const float* sin, const Launch& launch);

// y = bf16(x).  x: [rows, cols] f32.
void round_rows(const DeviceMatrix& x, const DeviceMatrix& y, const Launch& launch);

}  // namespace halftone::cuda
