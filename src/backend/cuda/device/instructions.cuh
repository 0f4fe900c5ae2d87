#pragma once
// The machine instructions that CUDA C++ has no name for, and the few conversions that kernels share.

#include <cuda_runtime.h>

#include <cstdint>

namespace halftone::cuda {

// 16 bytes that nothing writes while the kernel runs and that are used once: they pass the first cache by.
__device__ __forceinline__ uint4 load_once(const void* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}

// Waits until the kernels before this one have ended and what they wrote can be read. Every kernel calls it, before it
// touches anything that another kernel writes; kernels started without overlap pass at once.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The memory that a launch asked for, of this block.
template <typename T>
__device__ __forceinline__ T* launch_memory() {
  extern __shared__ __align__(16) char memory[];
  return reinterpret_cast<T*>(memory);
}

// Lets the next kernel begin as soon as all blocks of this one have come here.
__device__ __forceinline__ void let_next_kernel_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// c += a b on 16 x 16 by 16 x 8, bf16 to f32. Lane l holds of a the rows l / 4 (a0, a2) and l / 4 + 8 (a1, a3), of b and of
// c = {c0, c1: row l / 4, c2, c3: row l / 4 + 8} the columns l / 4 and 2 (l mod 4), 2 (l mod 4) + 1. The second eight rows
// of a are zero here.
__device__ __forceinline__ void multiply_bf16(float (&c)[4], std::uint32_t a0, std::uint32_t a2, std::uint32_t b0,
                                              std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(0), "r"(a2), "r"(0), "r"(b0), "r"(b1));
}

// The same on 16 x 32 by 32 x 8, INT8 to int32.
__device__ __forceinline__ void multiply_int8(std::int32_t (&c)[4], std::uint32_t a0, std::uint32_t a2,
                                              std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(0), "r"(a2), "r"(0), "r"(b0), "r"(b1));
}

// Two bf16 in one word, the first in the low half; each result is rounded once, subnormal numbers stay.
__device__ __forceinline__ std::uint32_t multiply_add_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// low and high rounded to bf16, to nearest, ties to even.
__device__ __forceinline__ std::uint32_t pack_bf16x2(float low, float high) {
  std::uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

__device__ __forceinline__ float f16_value(std::uint16_t code) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(code));
  return x;
}

__device__ __forceinline__ float bf16_value(std::uint16_t code) {
  return __uint_as_float(static_cast<std::uint32_t>(code) << 16);
}
__device__ __forceinline__ std::uint16_t bf16_code(float x) {
  return static_cast<std::uint16_t>(pack_bf16x2(x, 0.0f) & 0xffff);
}
__device__ __forceinline__ float round_bf16(float x) { return bf16_value(bf16_code(x)); }

}  // namespace halftone::cuda
