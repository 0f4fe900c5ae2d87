#pragma once
// Sums and maxima over the lanes of a warp and the warps of a block, each in an order that the block's size alone decides.

#include <cuda_runtime.h>

namespace halftone::cuda {

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

// NaN wins.
struct Largest {
  __device__ float operator()(float a, float b) const { return b > a || b != b ? b : a; }
};

// Every lane gets the result.
template <typename T, typename Combine>
__device__ __forceinline__ T reduce_warp(T value, Combine combine) {
  for (int lane = 16; lane > 0; lane /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, lane));
  return value;
}

// Every thread gets the result; `slots` holds one T a warp and may be used again after the next __syncthreads().
template <typename T, typename Combine>
__device__ __forceinline__ T reduce_block(T value, T* slots, Combine combine) {
  value = reduce_warp(value, combine);
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = value;
  __syncthreads();
  T all = slots[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) all = combine(all, slots[w]);
  return all;
}

}  // namespace halftone::cuda
