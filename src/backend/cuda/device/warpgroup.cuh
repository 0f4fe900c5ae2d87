#pragma once
// The matrix units' instructions of compute capability 9.0a, for a warpgroup: 128 threads that begin at a multiple of 128. A
// translation unit that includes this file builds for other architectures when it uses nothing of it there.

#include <cuda_runtime.h>

#include <cstdint>

namespace halftone::cuda {

// True in device code for an architecture that has them.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kHasWarpgroups = true;
#else
constexpr bool kHasWarpgroups = false;
#endif

// Describes an operand in shared memory without swizzling: pieces of 8 x 8 bf16, 128 contiguous bytes each. step_k, step_n:
// bytes from one piece to the next along the sum and along the columns of the result.
__device__ __forceinline__ std::uint64_t describe_operand(const void* shared, int step_k, int step_n) {
  const auto address = static_cast<std::uint64_t>(__cvta_generic_to_shared(shared));
  return (address & 0x3ffff) >> 4 | static_cast<std::uint64_t>(step_k >> 4) << 16 |
         static_cast<std::uint64_t>(step_n >> 4) << 32;
}

// Before the first product of a group: registers that it reads or adds to have been written.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most kLater of the groups that were ended are under way.
template <int kLater>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLater) : "memory");
}
// Keeps what reads (overwrites) these registers behind the wait before it.
template <int kBlocks>
__device__ __forceinline__ void settle(float (&c)[kBlocks][4]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    asm volatile("" : "+f"(c[b][0]), "+f"(c[b][1]), "+f"(c[b][2]), "+f"(c[b][3])::"memory");
  }
}
template <int kBlocks>
__device__ __forceinline__ void settle(std::uint32_t (&a)[kBlocks][4]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    asm volatile("" : "+r"(a[b][0]), "+r"(a[b][1]), "+r"(a[b][2]), "+r"(a[b][3])::"memory");
  }
}

// Starts c = a b (+ c with `add`) on 64 x 16 by 16 x 8 kBlocks, bf16 to f32. Each warp holds 16 rows of a and c, laid out as
// multiply_bf16() says, block after block of eight columns. b: describe_operand(), its rows contiguous along the sum, or along
// the columns with kTransposed.
template <bool kTransposed, int kBlocks>
__device__ __forceinline__ void multiply_warpgroup(float (&c)[kBlocks][4], const std::uint32_t (&a)[4], std::uint64_t b,
                                                   bool add);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HALFTONE_BLOCK(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
#define HALFTONE_BLOCKS4(i) HALFTONE_BLOCK(i), HALFTONE_BLOCK(i + 1), HALFTONE_BLOCK(i + 2), HALFTONE_BLOCK(i + 3)
#define HALFTONE_INPUTS \
  "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(kTransposed ? 1 : 0)

template <bool kTransposed>
__device__ __forceinline__ void multiply_blocks(float (&c)[8][4], const std::uint32_t (&a)[4], std::uint64_t b,
                                                bool add) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %37, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, %38;}"
      : HALFTONE_BLOCKS4(0), HALFTONE_BLOCKS4(4)
      : HALFTONE_INPUTS);
}
template <bool kTransposed>
__device__ __forceinline__ void multiply_blocks(float (&c)[10][4], const std::uint32_t (&a)[4], std::uint64_t b,
                                                bool add) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %45, 0; "
      "wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39}, "
      "{%40, %41, %42, %43}, %44, p, 1, 1, %46;}"
      : HALFTONE_BLOCKS4(0), HALFTONE_BLOCKS4(4), HALFTONE_BLOCK(8), HALFTONE_BLOCK(9)
      : HALFTONE_INPUTS);
}
template <bool kTransposed>
__device__ __forceinline__ void multiply_blocks(float (&c)[12][4], const std::uint32_t (&a)[4], std::uint64_t b,
                                                bool add) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %53, 0; "
      "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}, "
      "{%48, %49, %50, %51}, %52, p, 1, 1, %54;}"
      : HALFTONE_BLOCKS4(0), HALFTONE_BLOCKS4(4), HALFTONE_BLOCKS4(8)
      : HALFTONE_INPUTS);
}
template <bool kTransposed>
__device__ __forceinline__ void multiply_blocks(float (&c)[16][4], const std::uint32_t (&a)[4], std::uint64_t b,
                                                bool add) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %69, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, p, 1, 1, %70;}"
      : HALFTONE_BLOCKS4(0), HALFTONE_BLOCKS4(4), HALFTONE_BLOCKS4(8), HALFTONE_BLOCKS4(12)
      : HALFTONE_INPUTS);
}

#undef HALFTONE_BLOCK
#undef HALFTONE_BLOCKS4
#undef HALFTONE_INPUTS

template <bool kTransposed, int kBlocks>
__device__ __forceinline__ void multiply_warpgroup(float (&c)[kBlocks][4], const std::uint32_t (&a)[4], std::uint64_t b,
                                                   bool add) {
  multiply_blocks<kTransposed>(c, a, b, add);
}
#endif

// Gives registers back, or takes some: the number that every thread of this warpgroup has from here on.
template <int kCount>
__device__ __forceinline__ void give_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}

}  // namespace halftone::cuda
