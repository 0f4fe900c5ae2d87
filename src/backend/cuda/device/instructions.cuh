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

// Starts a copy of 16 bytes to shared memory, or of zeros where they are not `there`. Copies are waited for in groups.
__device__ __forceinline__ void copy_async(void* shared, const void* address, bool there) {
  const auto target = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(address), "r"(there ? 16 : 0)
               : "memory");
}
// The same of the first `bytes` of 16, and zeros behind them, for what other blocks of the multiprocessor read, too: it stays
// in the first cache.
__device__ __forceinline__ void copy_part_async(void* shared, const void* address, int bytes) {
  const auto target = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(address), "r"(bytes) : "memory");
}
__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kLater of the groups that this thread ended are under way.
template <int kLater>
__device__ __forceinline__ void wait_for_copy_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLater) : "memory");
}

// Waits until the kernels before this one have ended and what they wrote can be read. Every kernel calls it, before it
// touches anything that another kernel writes; kernels started without overlap pass at once.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Counts up, and returns the count before. What a thread wrote before it counted, or before a barrier with a thread that
// counted then, can be read by all who count later.
__device__ __forceinline__ std::uint32_t count_ordered(std::uint32_t* counter) {
  std::uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// Clusters: blocks that read one another's shared memory. Devices before 9.0 have none: a block is alone.
__device__ __forceinline__ int cluster_rank() {
#if __CUDA_ARCH__ >= 900
  return static_cast<int>(__clusterRelativeBlockRank());
#else
  return 0;
#endif
}
__device__ __forceinline__ int cluster_blocks() {
#if __CUDA_ARCH__ >= 900
  return static_cast<int>(__clusterSizeInBlocks());
#else
  return 1;
#endif
}
// All threads of the cluster; what they wrote to shared memory before it can be read behind it.
__device__ __forceinline__ void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
#else
  __syncthreads();
#endif
}
// The same place in the shared memory of the cluster's block `rank`.
template <typename T>
__device__ __forceinline__ const T* cluster_shared(const T* own, [[maybe_unused]] int rank) {
#if __CUDA_ARCH__ >= 900
  return static_cast<const T*>(__cluster_map_shared_rank(own, static_cast<unsigned>(rank)));
#else
  return own;
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

// c += a b on 16 x 16 by 16 x 8, bf16 to f32. Lane 4 r + t holds of a the rows r (a0, a2) and r + 8 (a1, a3), of b the column
// r, each at the places 2 t, 2 t + 1 (a0, a1, b0) and 2 t + 8, 2 t + 9 (a2, a3, b1) of the sum, and of c the columns 2 t and
// 2 t + 1 of row r (c0, c1) and of row r + 8 (c2, c3).
__device__ __forceinline__ void multiply_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                              std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of f16.
__device__ __forceinline__ void multiply_f16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same on 16 x 32 by 32 x 8, INT8 to int32: four codes where the other has two.
__device__ __forceinline__ void multiply_int8(std::int32_t (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                              std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// (a & kMask) | c in one instruction, which the compiler makes two of where both are constants.
template <std::uint32_t kMask>
__device__ __forceinline__ std::uint32_t mask_or(std::uint32_t a, std::uint32_t c) {
  std::uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "n"(kMask), "r"(c));
  return d;
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

// Within one unit in the last place, subnormal ones, too.
__device__ __forceinline__ float approximate_reciprocal(float x) {
  float y;
  asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two E4M3 codes as the same numbers in f16, the low byte's in the low half.
__device__ __forceinline__ std::uint32_t f16_of_e4m3(std::uint16_t codes) {
  std::uint32_t d;
#if __CUDA_ARCH__ >= 890
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(d) : "h"(codes));
#else
  // exponent and mantissa lie in f16's as they are, eight powers of two too low; NaN becomes 480
  constexpr std::uint32_t k2To8 = 0x5c005c00u;
  const std::uint32_t upper = (codes & 0xffu) << 8 | (codes & 0xff00u) << 16;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"((upper & 0x80008000u) | (upper >> 1 & 0x3f803f80u)), "r"(k2To8));
#endif
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

__device__ __forceinline__ std::uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Eight bf16 of 16 bytes, and back.
__device__ __forceinline__ void unpack_bf16(const uint4& words, float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t word = word_of(words, i / 2);
    values[i] = __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
  }
}
__device__ __forceinline__ uint4 pack_bf16(const float (&values)[8]) {
  return make_uint4(pack_bf16x2(values[0], values[1]), pack_bf16x2(values[2], values[3]),
                    pack_bf16x2(values[4], values[5]), pack_bf16x2(values[6], values[7]));
}

}  // namespace halftone::cuda
