#pragma once
// The softmax over tiles of keys, on the matrix units' results as they lie in registers: lane 4 r + t holds of every block of
// eight columns the places 2 t and 2 t + 1 of row r (0, 1) and of row r + 8 (2, 3).

#include "backend/cuda/device/instructions.cuh"

namespace halftone::cuda {

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// 2^x, 2 ulp; 0 for minus infinity.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Hides the keys that a row does not see. first_key: of the tile; seen: keys of the lane's two rows.
template <int kBlocks>
__device__ __forceinline__ void hide_keys(float (&scores)[kBlocks][4], int first_key, const int (&seen)[2]) {
  const int key = first_key + threadIdx.x % 4 * 2;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (key + b * 8 + i % 2 >= seen[i / 2]) scores[b][i] = minus_infinity();
    }
  }
}

// Of the two rows of a lane.
struct OnlineSoftmax {
  float largest[2] = {minus_infinity(), minus_infinity()};  // score so far
  float sum[2] = {0.0f, 0.0f};                              // of this lane's exponentials

  // The scores become 2^(step (score - largest)); what multiplies all earlier results comes back in `factors`. Every row
  // sees a key of the first tile, so that there is a largest score.
  template <int kBlocks>
  __device__ __forceinline__ void exponentiate(float (&scores)[kBlocks][4], float step, float (&factors)[2]) {
    // by column parity first: four short chains instead of two long ones
    float most[4] = {largest[0], largest[0], largest[1], largest[1]};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) most[i] = fmaxf(most[i], scores[b][i]);
    }
    float shift[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float now = fmaxf(most[2 * i], most[2 * i + 1]);
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
      factors[i] = power_of_two((largest[i] - now) * step);
      largest[i] = now;
      shift[i] = -now * step;
    }
    float parts[4] = {sum[0] * factors[0], 0.0f, sum[1] * factors[1], 0.0f};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[b][i] = power_of_two(fmaf(scores[b][i], step, shift[i / 2]));
        parts[i] += scores[b][i];
      }
    }
    sum[0] = parts[0] + parts[1];
    sum[1] = parts[2] + parts[3];
  }

  // What the results are multiplied with in the end.
  __device__ __forceinline__ void finish(float (&factors)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float all = sum[i] + __shfl_xor_sync(0xffffffffu, sum[i], 1);
      all += __shfl_xor_sync(0xffffffffu, all, 2);
      factors[i] = 1.0f / all;
    }
  }
};

template <int kBlocks>
__device__ __forceinline__ void scale_rows(float (&values)[kBlocks][4], const float (&factors)[2]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[b][i] *= factors[i / 2];
  }
}

// Writes the lane's two rows. out: column 0 of the head in the lane's first row; there: whether its rows are.
template <int kBlocks>
__device__ __forceinline__ void store_rows(const float (&values)[kBlocks][4], std::uint16_t* out, std::int64_t stride,
                                           int head_dim, const bool (&there)[2]) {
  const int part = threadIdx.x % 4 * 2;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    if (b * 8 >= head_dim) break;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!there[i]) continue;
      *reinterpret_cast<std::uint32_t*>(out + i * 8 * stride + b * 8 + part) =
          pack_bf16x2(values[b][2 * i], values[b][2 * i + 1]);
    }
  }
}

}  // namespace halftone::cuda
