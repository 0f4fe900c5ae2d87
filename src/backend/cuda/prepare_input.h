#pragma once
// The input of a product from the hidden state in one pass: silu_mul() or RMSNorm, then quantization, each only where it is
// wanted.
//   h = x, or what silu_mul() makes of x, or
//       bf16(w * bf16(x / sqrt(mean(x^2) + eps)))                 ops/norm.h, Numerics::kBF16
//   y = h, or the codes of h as ops/linear.h's x'                 in bf16, which holds every code, or in one byte
// Where blocks of 16 or 32 have scales (NVFP4, MX) y is x' itself, which bf16 holds above 2^-126; where groups of 128 have
// them y is the codes, or x' rounded to bf16 where nobody takes the scales.
// The mean is summed in f64, in the one order of device/input_rows.cuh. Error: h is within one bf16 step of the CPU's; codes
// are exactly those of h.

#include "backend/cuda/device/linear.h"
#include "backend/cuda/device_matrix.h"
#include "backend/cuda/launch.h"
#include "base/rounding.h"
#include "tensor/qtensor.h"

namespace halftone::cuda {

struct PrepareInput {
  DeviceMatrix x;               // [rows, cols] bf16
  const float* norm = nullptr;  // w: [cols], or null: no norm
  float eps = 0.0f;
  InputQuant input;
  DeviceMatrix y;  // [rows, cols] bf16, or kI8 or kF8E4M3 for codes; it may be x when both are bf16
  // [rows]: s_in of each token, for the kinds by token; [rows, ceil(cols / 128)] or null for groups of 128.
  float* y_scales = nullptr;
  bool silu_mul = false;  // x: [rows, 2 cols], gates before values; without norm
};

// True where groups of a token's inputs have scales that bf16 does not hold with their codes.
constexpr bool scales_groups(InputQuant::Kind kind) { return kind == InputQuant::Kind::kDynamicE4M3Group; }
// Scales that prepare_input() may write for a token.
constexpr std::int64_t input_scale_count(InputQuant::Kind kind, std::int64_t cols) {
  return scales_groups(kind) ? divide_up(cols, kInputGroup) : 1;
}

// Throws Error("[cuda prepare_input] ...") when shapes, dtypes or the kind of quantization do not fit.
void prepare_input(const PrepareInput& call, const Launch& launch);

// What kernels are given of a PrepareInput's x, norm, eps and input.
InputRows input_rows(const DeviceMatrix& x, const float* norm, float eps, const InputQuant& input);

// y[:, j] = bf16(x[:, order[j]] * scales[order[j]]), each only where it is given: what stands before some products.
//   x, y: [rows, cols] bf16, not the same.  scales, order: [cols].
struct ArrangeInput {
  DeviceMatrix x;
  const float* scales = nullptr;
  const std::int32_t* order = nullptr;
  DeviceMatrix y;
};
// Throws Error("[cuda arrange_input] ...") when shapes or dtypes do not fit.
void arrange_input(const ArrangeInput& call, const Launch& launch);

}  // namespace halftone::cuda
