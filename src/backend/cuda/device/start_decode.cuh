#pragma once
// The kernels of products for few tokens and for some tens of them, and how they are started, for a format of weights.

#include <algorithm>

#include "backend/cuda/device/linear_batch.cuh"
#include "backend/cuda/device/linear_decode.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {

constexpr int kMaxThreads = 512;  // of a block

// What registers are bounded for. Preparing E4M3 takes up to ninety-six, which leave room for five blocks of four warps.
template <class Format>
constexpr int kBoundThreads = multiplies_f16<typename Format::Words> ? 640 : kMaxThreads;

template <class Format, int kStages>
__global__ void __launch_bounds__(kBoundThreads<Format>)
    linear_decode(const __grid_constant__ LinearArguments args, int stages, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  multiply_pairs<Format, kStages>(args, stages, staged_stride, scratch);
}

template <class Format, int kPairs>
__global__ void __launch_bounds__(kBatchThreads, 2)
    linear_batch(const __grid_constant__ LinearArguments args, int warps) {
  multiply_batch<Format, kPairs>(args, warps);
}

// Of a thread.
template <class Kernel>
int registers_of(Kernel kernel) {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), "cuda linear");
  return attributes.numRegs;
}

template <class Format>
int staged_row_stride(const LinearArguments& arguments) {
  return staged_stride(arguments.k * static_cast<int>(sizeof(typename Format::XElement)));
}

// Up to eight tokens whose rows fit in shared memory.
template <class Format>
void start_staged(const LinearArguments& arguments, int warps, const Launch& launch) {
  // Chunks under way. More of them win time where a block goes on to other tiles, but not where a chunk has scales of groups.
  constexpr int kStages = Format::kShares ? 4 : 6;
  constexpr std::size_t kStage = kTiles * sizeof(typename Format::Slot);
  constexpr std::size_t kSums = kTiles * PairOutputs::kOutputs * sizeof(typename Format::Sum);
  const int stride = staged_row_stride<Format>(arguments), pairs = pairs_of(arguments);
  const auto bytes_of = [&](int stages) {
    return static_cast<std::size_t>(warps) * (static_cast<std::size_t>(stages) * kStage + kSums) +
           static_cast<std::size_t>(arguments.m) * static_cast<std::size_t>(stride);
  };
  const auto kernel = linear_decode<Format, kStages>;
  int stages = kStages, blocks = decode_blocks(pairs, warps, bytes_of(stages), registers_of(kernel));
  if (kFitsRing<Format> && blocks == pairs) {  // a warp's chunks are those of one pair
    stages = std::min(kStages, (chunks_of<Format>(arguments) + warps - 1) / warps);
  }
  allow_shared_memory(kernel, kMaxThreads / 32 * (kStages * kStage + kSums) + kMostStagedBytes, "cuda linear");
  start_kernel(launch, "cuda linear", kernel, dim3(static_cast<unsigned>(blocks)),
               dim3(static_cast<unsigned>(32 * warps)), bytes_of(stages), arguments, stages, stride);
}

// The blocks of kPairs pairs each, and how long the multiprocessor that has most of them is busy, in pairs.
template <int kPairs>
struct BatchBlocks {
  unsigned cluster, blocks;
  int busy;
  BatchBlocks(const BatchDevice& device, const LinearArguments& arguments, int warps)
      : cluster(static_cast<unsigned>(warps / kBatchWarps)),
        blocks(static_cast<unsigned>((pairs_of(arguments) + kPairs - 1) / kPairs) * cluster),
        busy((static_cast<int>(blocks) + device.multiprocessors - 1) / device.multiprocessors * kPairs) {}
};

template <class Format, int kPairs>
void start_blocks(const BatchBlocks<kPairs>& blocks, const LinearArguments& arguments, int warps,
                  const Launch& launch) {
  const auto kernel = linear_batch<Format, kPairs>;
  constexpr std::size_t kBytes = sizeof(BatchMemory<Format, kPairs>);
  allow_shared_memory(kernel, kBytes, "cuda linear");
  start_clusters(launch, "cuda linear", kernel, blocks.cluster, dim3(blocks.blocks), dim3(kBatchThreads), kBytes,
                 arguments, warps);
}

// Any number of tokens, kBatchTokens at a time.
template <class Format>
void start_batch(const BatchDevice& device, const LinearArguments& arguments, int warps, const Launch& launch) {
  for (int first = 0; first < arguments.m; first += kBatchTokens) {
    const LinearArguments slice = token_slice(arguments, first, std::min(kBatchTokens, arguments.m - first));
    const BatchBlocks<4> four(device, slice, warps);
    const BatchBlocks<3> three(device, slice, warps);
    if (four.busy <= three.busy) {
      start_blocks<Format>(four, slice, warps, launch);
    } else {
      start_blocks<Format>(three, slice, warps, launch);
    }
  }
}

// Without clusters: tokens whose rows fit in a block's memory, some at a time.
template <class Format>
void start_slices(const LinearArguments& arguments, int warps, const Launch& launch) {
  const int most = std::clamp(kMostStagedBytes / staged_row_stride<Format>(arguments), 1, kTokenBlock);
  for (int first = 0; first < arguments.m; first += most) {
    start_staged<Format>(token_slice(arguments, first, std::min(most, arguments.m - first)), warps, launch);
  }
}

template <class Format>
void start_format(const LinearArguments& arguments, int warps, const Launch& launch) {
  if (arguments.m <= kTokenBlock && arguments.m * staged_row_stride<Format>(arguments) <= kMostStagedBytes) {
    return start_staged<Format>(arguments, warps, launch);
  }
  const BatchDevice device = batch_device();
  if (device.clusters) return start_batch<Format>(device, arguments, warps, launch);
  start_slices<Format>(arguments, warps, launch);
}

}  // namespace halftone::cuda
