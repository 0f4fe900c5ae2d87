#pragma once
// How the kernels of products for few tokens are started.

#include "backend/cuda/device/linear_decode.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {

constexpr int kMaxThreads = 512;  // of a block

// A kernel of LinearArguments and the stride of staged rows. kRing: bytes of a warp's ring, kSums: of its sums; the sums take
// the ring's place where rows are not staged. row_bytes: of a row of x.
template <std::size_t kRing, std::size_t kSums, bool kStaged>
void start_pairs(void (*kernel)(LinearArguments, int), const LinearArguments& arguments, int row_bytes, int warps,
                 const Launch& launch) {
  static_assert(kStaged || kRing >= kSums, "the sums take the ring's place");
  constexpr std::size_t kWarp = kRing + (kStaged ? kSums : 0);
  const int stride = staged_stride(row_bytes);
  const std::size_t bytes = static_cast<std::size_t>(warps) * kWarp +
                            (kStaged ? static_cast<std::size_t>(arguments.m) * static_cast<std::size_t>(stride) : 0);
  allow_shared_memory(kernel, kMaxThreads / 32 * kWarp + (kStaged ? kMostStagedBytes : 0), "cuda linear");
  const int pairs = (arguments.n + kTiles * kTileRows - 1) / (kTiles * kTileRows);
  const int blocks = kStaged ? decode_blocks(pairs, warps, bytes) : pairs;
  start_kernel(launch, "cuda linear", kernel, dim3(static_cast<unsigned>(blocks)),
               dim3(static_cast<unsigned>(32 * warps)), bytes, arguments, stride);
}

}  // namespace halftone::cuda
