#pragma once
// The kernels of products for few tokens and for some tens of them, and how they are started, for a format of weights.

#include <algorithm>

#include "backend/cuda/device/linear_batch.cuh"
#include "backend/cuda/device/linear_decode.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {

constexpr int kMostWarps = 16, kMaxThreads = 32 * kMostWarps;  // of a block
// What registers are bounded for: to ninety-six, so that attention's blocks have room beside such a block.
constexpr int kBoundThreads = 640;

template <class Format, int kStages>
__global__ void __launch_bounds__(kBoundThreads, 1)
    linear_decode(const __grid_constant__ LinearArguments args, int team_warps, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  multiply_pairs<Format, kStages>(args, team_warps, staged_stride, scratch);
}

template <class Format, int kPairs>
__global__ void __launch_bounds__(kBatchThreads, 2)
    linear_batch(const __grid_constant__ LinearArguments args, int warps) {
  multiply_batch<Format, kPairs>(args, warps);
}

template <class Format>
int staged_row_stride(const LinearArguments& arguments) {
  return staged_stride(arguments.k * static_cast<int>(sizeof(typename Format::XElement)));
}

// Teams of `warps` warps of a block for `pairs` pairs, and blocks: one a multiprocessor, so that none has more to do than the
// others, and x is prepared once there. (Small blocks of a kernel that begins while another one still has some multiprocessors
// crowd on those that are free.)
struct DecodeBlocks {
  int teams, blocks;
  DecodeBlocks(int multiprocessors, int pairs, int warps)
      : teams(
            std::clamp((pairs + multiprocessors - 1) / multiprocessors, 1, std::min(kMostTeams, kMostWarps / warps))) {
    const int at_once = multiprocessors * teams, rounds = (pairs + at_once - 1) / at_once;
    blocks = teams > 1 ? std::min(multiprocessors, (pairs + teams - 1) / teams) : (pairs + rounds - 1) / rounds;
  }
};

// Up to eight tokens whose rows fit in shared memory.
template <class Format>
void start_staged(const BatchDevice& device, const LinearArguments& arguments, int warps, const Launch& launch) {
  constexpr int kStages = Format::kShares ? 4 : 6;  // chunks under way
  constexpr std::size_t kWarpBytes =
      kTiles * (kStages * sizeof(typename Format::Slot) + PairOutputs::kOutputs * sizeof(typename Format::Sum));
  const int stride = staged_row_stride<Format>(arguments);
  const DecodeBlocks of(device.multiprocessors, pairs_of(arguments), warps);
  const std::size_t needed = static_cast<std::size_t>(of.teams * warps) * kWarpBytes +
                             static_cast<std::size_t>(arguments.m) * static_cast<std::size_t>(stride);
  const auto kernel = linear_decode<Format, kStages>;
  allow_shared_memory(kernel, kMostWarps * kWarpBytes + kMostStagedBytes, "cuda linear");
  divide_memory(kernel, true, "cuda linear");
  // so much that a multiprocessor has no room for a second one
  const std::size_t bytes = std::max(needed, device.shared / 2 - kReservedShared);
  start_kernel(launch, "cuda linear", kernel, dim3(static_cast<unsigned>(of.blocks)),
               dim3(static_cast<unsigned>(32 * warps * of.teams)), bytes, arguments, warps, stride);
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
void start_slices(const BatchDevice& device, const LinearArguments& arguments, int warps, const Launch& launch) {
  const int most = std::clamp(kMostStagedBytes / staged_row_stride<Format>(arguments), 1, kTokenBlock);
  for (int first = 0; first < arguments.m; first += most) {
    start_staged<Format>(device, token_slice(arguments, first, std::min(most, arguments.m - first)), warps, launch);
  }
}

template <class Format>
void start_format(const LinearArguments& arguments, int warps, const Launch& launch) {
  const BatchDevice device = batch_device();
  if (arguments.m <= kTokenBlock && arguments.m * staged_row_stride<Format>(arguments) <= kMostStagedBytes) {
    return start_staged<Format>(device, arguments, warps, launch);
  }
  if (device.clusters) return start_batch<Format>(device, arguments, warps, launch);
  start_slices<Format>(device, arguments, warps, launch);
}

}  // namespace halftone::cuda
