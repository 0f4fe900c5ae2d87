// The place of the largest logit, the first one of equals; -1 where a logit is not a number. Blocks take parts of a row; one
// warp a row joins them.
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256;

// NaN is larger than all numbers: it must not get lost.
struct Best {
  float value;
  int col;
  __device__ void join(float other, int other_col) {
    const bool nan = value != value, other_nan = other != other;
    const bool larger = nan || other_nan ? other_nan && !nan : other > value;
    const bool equal = nan || other_nan ? nan && other_nan : other == value;
    if (larger || (equal && other_col < col)) {
      value = other;
      col = other_col;
    }
  }
  __device__ void join_warp() {
    for (int lane = 16; lane > 0; lane /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, value, lane);
      join(other, __shfl_xor_sync(0xffffffffu, col, lane));
    }
  }
};

__device__ Best nothing() { return {__uint_as_float(0xff800000u), 0x7fffffff}; }

__global__ void __launch_bounds__(kThreads) argmax_parts(ArgmaxArguments args) {
  __shared__ float values[kThreads / 32];
  __shared__ int cols[kThreads / 32];
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const float* row = args.logits + blockIdx.y * args.stride;
  Best best = nothing();
  for (int col = blockIdx.x * kThreads + threadIdx.x; col < args.cols; col += kArgmaxBlocks * kThreads) {
    best.join(row[col], col);
  }
  best.join_warp();
  if (threadIdx.x % 32 == 0) {
    values[threadIdx.x / 32] = best.value;
    cols[threadIdx.x / 32] = best.col;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kThreads / 32; ++w) best.join(values[w], cols[w]);
  args.best[blockIdx.y * kArgmaxBlocks + blockIdx.x] = best.value;
  args.best_col[blockIdx.y * kArgmaxBlocks + blockIdx.x] = best.col;
}

__global__ void __launch_bounds__(32) argmax_join(ArgmaxArguments args) {
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  Best best = nothing();
  for (int i = threadIdx.x; i < kArgmaxBlocks; i += 32) {
    best.join(args.best[blockIdx.x * kArgmaxBlocks + i], args.best_col[blockIdx.x * kArgmaxBlocks + i]);
  }
  best.join_warp();
  if (threadIdx.x == 0) args.tokens[blockIdx.x] = best.value != best.value ? -1 : best.col;
}

}  // namespace

void start_argmax(const ArgmaxArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda argmax", argmax_parts, dim3(kArgmaxBlocks, static_cast<unsigned>(arguments.rows)),
               dim3(kThreads), 0, arguments);
  start_kernel(launch, "cuda argmax", argmax_join, dim3(static_cast<unsigned>(arguments.rows)), dim3(32), 0, arguments);
}

}  // namespace halftone::cuda
