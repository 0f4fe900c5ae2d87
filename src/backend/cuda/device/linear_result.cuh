#pragma once
// What the kernels of linear() do alike with a sum.

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"

namespace halftone::cuda {

// What multiplies and shifts the sums of row n.
struct RowTerms {
  float scale = 1.0f, factor = 1.0f, bias = 0.0f;
  RowTerms() = default;
  __device__ RowTerms(const LinearArguments& args, int n) {
    if (args.row_scales) scale = args.row_scales[n];
    factor = args.row_factors[n];
    if (args.bias) bias = args.bias[n];
  }
  // The last step of ops/linear.h.
  __device__ float value(const LinearArguments& args, int m, float sum) const {
    return value(sum, args.x_scales ? args.x_scales[m] : 1.0f);
  }
  __device__ float value(float sum, float x_scale) const { return fmaf(scale * sum, x_scale * factor, bias); }
};

// The residual of y[m, n] as it is stored, 0 where there is none: to make a number of it is to wait for it.
__device__ __forceinline__ std::uint16_t load_residual(const LinearArguments& args, int m, int n) {
  return args.residual ? args.residual[m * args.residual_stride + n] : std::uint16_t{0};
}

// y[m, n], after the residual where there is one.
__device__ __forceinline__ void store_result(const LinearArguments& args, int m, int n, float value,
                                             std::uint16_t residual) {
  if (args.y_f32) {
    static_cast<float*>(args.y)[m * args.y_stride + n] = value;
    return;
  }
  if (args.residual) value = round_bf16(value) + bf16_value(residual);
  static_cast<std::uint16_t*>(args.y)[m * args.y_stride + n] = bf16_code(value);
}
__device__ __forceinline__ void store_result(const LinearArguments& args, int m, int n, float value) {
  store_result(args, m, n, value, load_residual(args, m, n));
}

// The silu of a gate in bf16 times `up`. The device's quick exponential and reciprocal are within 2^-16 of a silu, which is
// then rounded to bf16.
__device__ __forceinline__ float silu_product(float gate, float up) {
  return round_bf16(gate * approximate_reciprocal(1.0f + __expf(-gate))) * up;
}

}  // namespace halftone::cuda
