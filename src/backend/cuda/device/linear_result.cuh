#pragma once
// What the kernels of linear() do alike with a sum.

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"

namespace halftone::cuda {

// y of one element: the last step of ops/linear.h, then the residual.
__device__ __forceinline__ void store_result(const LinearArguments& args, int m, int n, float sum) {
  const float total = args.row_scales ? args.row_scales[n] * sum : sum;
  const float factor = args.x_scales ? args.x_scales[m] * args.row_factors[n] : args.row_factors[n];
  float value = fmaf(total, factor, args.bias ? args.bias[n] : 0.0f);
  if (args.y_f32) {
    static_cast<float*>(args.y)[m * args.y_stride + n] = value;
    return;
  }
  if (args.residual) value = round_bf16(value) + bf16_value(args.residual[m * args.residual_stride + n]);
  static_cast<std::uint16_t*>(args.y)[m * args.y_stride + n] = bf16_code(value);
}

}  // namespace halftone::cuda
