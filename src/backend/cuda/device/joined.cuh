#pragma once
// How what parts of a sequence's keys gave becomes one result.

#include "backend/cuda/device/online_softmax.cuh"
#include "backend/cuda/device/reduce.cuh"

namespace halftone::cuda {

// Four dimensions of one head, over parts of its keys: a lane's, while the warp has the whole head.
struct Joined {
  float4 out = make_float4(0, 0, 0, 0);
  float largest = minus_infinity(), sum = 0.0f;

  // For all lanes of a warp. parts: up to 32. extremes(p), values(p): largest score and sum of part p, and its four dimensions,
  // asked for kAtOnce ahead.
  template <int kAtOnce, class Extremes, class Values>
  __device__ __forceinline__ void join(int parts, float step, Extremes extremes, Values values) {
    const int lane = threadIdx.x % 32;
    const float2 own = lane < parts ? extremes(lane) : make_float2(minus_infinity(), 0.0f);
    float factor = 0.0f;
    for (int first = 0; first < parts; first += kAtOnce) {
      float4 v[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) v[i] = values(min(first + i, parts - 1));
      if (first == 0) {
        largest = reduce_warp(own.x, Largest());
        factor = power_of_two((own.x - largest) * step);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i >= parts) break;
        add(v[i], __shfl_sync(0xffffffffu, factor, first + i), __shfl_sync(0xffffffffu, own.y, first + i));
      }
    }
  }
  __device__ __forceinline__ void add(const float4& v, float factor, float part_sum) {
    sum = fmaf(part_sum, factor, sum);
    out = make_float4(fmaf(v.x, factor, out.x), fmaf(v.y, factor, out.y), fmaf(v.z, factor, out.z),
                      fmaf(v.w, factor, out.w));
  }
  __device__ __forceinline__ void scale(float factor) {
    out = make_float4(out.x * factor, out.y * factor, out.z * factor, out.w * factor);
  }
  __device__ __forceinline__ void store(std::uint16_t* target) const {
    const float factor = 1.0f / sum;
    *reinterpret_cast<uint2*>(target) =
        make_uint2(pack_bf16x2(out.x * factor, out.y * factor), pack_bf16x2(out.z * factor, out.w * factor));
  }
};

}  // namespace halftone::cuda
