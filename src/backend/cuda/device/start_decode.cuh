#pragma once
// The kernels of products for few tokens and for some tens of them, and how they are started, for a format of weights.

#include <algorithm>
#include <bit>

#include "backend/cuda/device/linear_batch.cuh"
#include "backend/cuda/device/linear_decode.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "base/rounding.h"

namespace halftone::cuda {

constexpr int kMostWarps = 16;  // of a block
// More than a block has, to bound registers to ninety-six: attention's blocks find room beside it then.
constexpr int kBoundThreads = 640;

template <class Format, int kStages>
__global__ void __launch_bounds__(kBoundThreads, 1)
    linear_decode(const __grid_constant__ LinearArguments args, int team_shift, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  multiply_pairs<Format, kStages>(args, team_shift, staged_stride, scratch);
}

template <class Format, int kPairs, int kBlocks>
__global__ void __launch_bounds__(kBatchThreads, 2)
    linear_batch(const __grid_constant__ LinearArguments args, int warps) {
  multiply_batch<Format, kPairs, kBlocks>(args, warps);
}

template <class Format>
int staged_row_stride(const LinearArguments& arguments) {
  return staged_stride(arguments.k * static_cast<int>(sizeof(typename Format::XElement)));
}

// Teams of `warps` warps of a block for `pairs` pairs, and blocks: one a multiprocessor, so that none has more to do than the
// others, and x is prepared once there. (Small blocks of a kernel that begins while another one still has some multiprocessors
// crowd on those that are free.)
struct DecodeBlocks {
  std::int64_t teams, blocks;
  DecodeBlocks(std::int64_t multiprocessors, std::int64_t pairs, int warps)
      : teams(std::clamp<std::int64_t>(divide_up(pairs, multiprocessors), 1, std::min(kMostTeams, kMostWarps / warps))),
        blocks(teams > 1 ? std::min(multiprocessors, divide_up(pairs, teams))
                         : divide_up(pairs, divide_up(pairs, multiprocessors))) {}
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
  constexpr std::size_t kReserved = 1024;                   // bytes of a block that the device takes besides
  const std::size_t alone = device.shared / 2 - kReserved;  // no second block finds room beside this one
  allow_shared_memory(kernel, std::max(alone, kMostWarps * kWarpBytes + kMostStagedBytes), "cuda linear");
  divide_memory(kernel, true, "cuda linear");
  start_kernel(launch, "cuda linear", kernel, dim3(static_cast<unsigned>(of.blocks)),
               dim3(static_cast<unsigned>(32 * warps * of.teams)), std::max(needed, alone), arguments,
               std::bit_width(static_cast<unsigned>(warps)) - 1, stride);
}

// The clusters of a product whose blocks take kPairs pairs each, and how long the multiprocessor that has most of their blocks
// is busy, in pairs.
struct BatchClusters {
  std::int64_t blocks, count;  // of a cluster; clusters
  std::int64_t blocks_each, busy;
  BatchClusters(const BatchDevice& device, const LinearArguments& arguments, int warps, int pairs_a_block)
      : blocks(warps / kBatchWarps),
        count(divide_up(pairs_of(arguments), pairs_a_block)),
        blocks_each(divide_up(blocks * count, device.multiprocessors)),
        busy(blocks_each * pairs_a_block) {}
};

// What a block asks for to be one of `blocks_each` of a multiprocessor, or of as few more as let all clusters run at once. With
// less the device fills one multiprocessor after another with as many as there is room for, and leaves others idle.
template <class Kernel>
std::size_t spread_bytes(const BatchDevice& device, const BatchClusters& clusters, Kernel kernel, std::size_t needed) {
  const auto bytes_of = [&](std::int64_t each) {
    return std::max(needed, device.shared / static_cast<std::size_t>(each + 1));
  };
  allow_shared_memory(kernel, bytes_of(clusters.blocks_each), "cuda linear");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(clusters.blocks), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(clusters.blocks * clusters.count));
  config.blockDim = dim3(kBatchThreads);
  config.attrs = &cluster;
  config.numAttrs = 1;
  for (std::int64_t each = clusters.blocks_each; bytes_of(each) > needed; ++each) {
    config.dynamicSmemBytes = bytes_of(each);
    int at_once = 0;
    check(cudaOccupancyMaxActiveClusters(&at_once, kernel, &config), "cuda linear");
    if (at_once >= clusters.count) return bytes_of(each);
  }
  return needed;
}

template <class Format, int kPairs, int kBlocks>
void start_blocks(const BatchDevice& device, const LinearArguments& arguments, int warps, const Launch& launch) {
  const auto kernel = linear_batch<Format, kPairs, kBlocks>;
  const BatchClusters clusters(device, arguments, warps, kPairs);
  std::size_t bytes = sizeof(BatchMemory<Format, kPairs, kBlocks>);
  allow_shared_memory(kernel, bytes, "cuda linear");
  if (clusters.blocks > 1) bytes = spread_bytes(device, clusters, kernel, bytes);
  start_clusters(launch, "cuda linear", kernel, static_cast<unsigned>(clusters.blocks),
                 dim3(static_cast<unsigned>(clusters.blocks * clusters.count)), dim3(kBatchThreads), bytes, arguments,
                 warps);
}

// kBlocks blocks of tokens by blocks of three or four pairs.
template <class Format, int kBlocks>
void start_tokens(const BatchDevice& device, const LinearArguments& arguments, int warps, const Launch& launch) {
  const auto busy = [&](int pairs) { return BatchClusters(device, arguments, warps, pairs).busy; };
  if (busy(4) <= busy(3)) {
    start_blocks<Format, 4, kBlocks>(device, arguments, warps, launch);
  } else {
    start_blocks<Format, 3, kBlocks>(device, arguments, warps, launch);
  }
}

// Whether a block has registers for the sums of kDecodeTokens tokens. Without scales of groups, and with codes that are few
// instructions away from their operands, there are enough.
template <class Format>
constexpr bool kTakesAll = !Format::kShares && !std::is_same_v<typename Format::Words, Int4Words>;

// Any number of tokens, some at a time.
template <class Format>
void start_batch(const BatchDevice& device, const LinearArguments& arguments, int warps, const Launch& launch) {
  constexpr int kFew = 4 * kTokenBlock, kMost = kTakesAll<Format> ? kDecodeTokens : kFew;
  for (int first = 0; first < arguments.m; first += kMost) {
    const LinearArguments slice = token_slice(arguments, first, std::min(kMost, arguments.m - first));
    if (slice.m <= kTokenBlock) {
      start_blocks<Format, 2, 1>(device, slice, warps, launch);
    } else if (slice.m <= kFew) {
      start_tokens<Format, 4>(device, slice, warps, launch);
    } else if constexpr (kTakesAll<Format>) {
      start_tokens<Format, kDecodeTokens / kTokenBlock>(device, slice, warps, launch);
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

// Whether the kernel for rows in shared memory is the faster one. Of a weight with many rows its blocks read x from there for
// each of many pairs; copying x anew for every two of them takes less, but where x has more bytes than the weight's codes.
template <class Format>
bool is_staged(const BatchDevice& device, const LinearArguments& arguments) {
  constexpr int kFew = 2, kManyPairs = 8;  // tokens; of a multiprocessor
  if (arguments.m > kTokenBlock || arguments.m * staged_row_stride<Format>(arguments) > kMostStagedBytes) return false;
  const bool many = pairs_of(arguments) >= kManyPairs * device.multiprocessors;
  return arguments.m <= kFew || Format::Words::kPieces > 1 || !device.clusters || !many;
}

template <class Format>
void start_format(const LinearArguments& arguments, int warps, const Launch& launch) {
  const BatchDevice device = batch_device();
  if (is_staged<Format>(device, arguments)) return start_staged<Format>(device, arguments, warps, launch);
  if (device.clusters) return start_batch<Format>(device, arguments, warps, launch);
  start_slices<Format>(device, arguments, warps, launch);
}

}  // namespace halftone::cuda
