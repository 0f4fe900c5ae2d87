// The place of the largest logit, the first one of equals, and how far the next one is below it; -1 and NaN where a logit is
// not finite. Blocks take parts of a row; one warp a row joins them.
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float infinity() { return __uint_as_float(0x7f800000u); }

// A logit that is not finite makes `first` NaN, which is larger than all numbers here and never gets lost.
struct Best : LargestTwo {
  __device__ Best() : LargestTwo{-infinity(), -infinity(), 0x7fffffff} {}
  __device__ explicit Best(const LargestTwo& two) : LargestTwo(two) {}
  __device__ void join(const LargestTwo& other) {
    if (first != first) return;
    const bool wins = other.first > first || (other.first == first && other.col < col) || other.first != other.first;
    second = wins ? fmaxf(first, other.second) : fmaxf(second, other.first);
    if (wins) {
      first = other.first;
      col = other.col;
    }
  }
  __device__ void join(float logit, int at) {
    const float finite = logit - logit == 0.0f ? logit : __uint_as_float(0x7fc00000u);
    join(LargestTwo{finite, -infinity(), at});
  }
  __device__ void join_warp() {
    for (int lane = 16; lane > 0; lane /= 2) {
      join(LargestTwo{__shfl_xor_sync(0xffffffffu, first, lane), __shfl_xor_sync(0xffffffffu, second, lane),
                      __shfl_xor_sync(0xffffffffu, col, lane)});
    }
  }
};

__global__ void __launch_bounds__(kThreads) argmax_parts(ArgmaxArguments args) {
  __shared__ LargestTwo parts[kThreads / 32];
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const float* row = args.logits + blockIdx.y * args.stride;
  Best best;
  for (int col = blockIdx.x * kThreads + threadIdx.x; col < args.cols; col += kArgmaxBlocks * kThreads) {
    best.join(row[col], col);
  }
  best.join_warp();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kThreads / 32; ++w) best.join(parts[w]);
  args.parts[blockIdx.y * kArgmaxBlocks + blockIdx.x] = best;
}

__global__ void __launch_bounds__(32) argmax_join(ArgmaxArguments args) {
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  Best best;
  for (int i = threadIdx.x; i < kArgmaxBlocks; i += 32) best.join(args.parts[blockIdx.x * kArgmaxBlocks + i]);
  best.join_warp();
  if (threadIdx.x != 0) return;
  args.tokens[blockIdx.x] = best.first != best.first ? -1 : best.col;
  args.gaps[blockIdx.x] = best.first - best.second;
}

}  // namespace

void start_argmax(const ArgmaxArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda argmax", argmax_parts, dim3(kArgmaxBlocks, static_cast<unsigned>(arguments.rows)),
               dim3(kThreads), 0, arguments);
  start_kernel(launch, "cuda argmax", argmax_join, dim3(static_cast<unsigned>(arguments.rows)), dim3(32), 0, arguments);
}

}  // namespace halftone::cuda
