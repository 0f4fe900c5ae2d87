#pragma once
// Attention of the newest token of each sequence as a kernel of its own; attention_decode.cuh says how.
#include <algorithm>

#include "backend/cuda/device/attention_decode.cuh"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {

// Five blocks a multiprocessor: of 32 sequences of some thousand keys all are there at once.
template <int kDim, class Cached>
__global__ void __launch_bounds__(kAttentionThreads, 5)
    attend_newest(const __grid_constant__ AttentionDecodeArguments args, bool in_cluster) {
  __shared__ AttentionScratch<kDim> scratch;
  const NewestAttention<kDim, Cached> attention(args, in_cluster, scratch, launch_memory<char>(), blockIdx.z,
                                                blockIdx.y, blockIdx.x);
  if (!attention.works()) {
    if (attention.has_ended()) wait_for_earlier_kernels();  // else the row's other blocks do
    return;
  }
  attention.begin();
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  attention.run();
}

// Blocks that a cluster of this kernel may have on this device: 16, 8 or 1.
template <int kDim, class Cached>
int most_cluster_blocks(std::size_t shared_bytes) {
  constexpr std::string_view kWhere = "cuda attention";
  const auto kernel = attend_newest<kDim, Cached>;
  int device = 0, clusters = 0;
  check(cudaGetDevice(&device), kWhere);
  check(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device), kWhere);
  if (!clusters) return 1;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), kWhere);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kClusterParts);
  config.blockDim = dim3(kAttentionThreads);
  config.dynamicSmemBytes = shared_bytes;
  int most = 0;
  check(cudaOccupancyMaxPotentialClusterSize(&most, kernel, &config), kWhere);
  constexpr int kPortable = 8;
  return most >= kClusterParts ? kClusterParts : most >= kPortable ? kPortable : 1;
}

template <int kDim, class Cached>
void start_newest(AttentionDecodeArguments arguments, const Launch& launch) {
  constexpr std::size_t kStage = KeyRing<kDim, Cached>::kStageBytes * kAttentionWarps;
  constexpr std::size_t kMostBytes = kMostStages * kStage + sizeof(ClusterResults<kDim>);
  const auto kernel = attend_newest<kDim, Cached>;
  allow_shared_memory(kernel, kMostBytes, "cuda attention");
  static const int most = most_cluster_blocks<kDim, Cached>(kMostBytes);
  const int tiles = (arguments.longest + kSplitKeys - 1) / kSplitKeys, parts = std::min(tiles, kMostSplits);
  const dim3 blocks(static_cast<unsigned>(parts), static_cast<unsigned>(arguments.kv.kv_heads),
                    static_cast<unsigned>(arguments.rows));
  // What won on 132 multiprocessors: few blocks copy all their keys at once, and clusters find room for all of theirs. More
  // blocks are faster when more of them are there at once and none waits for room for others.
  constexpr int kCopyAll = 264, kShareClusters = 396;
  const int all = parts * arguments.kv.kv_heads * arguments.rows;
  const bool in_cluster = all <= kShareClusters && parts > 1 && parts <= most;
  arguments.stages = all <= kCopyAll ? kMostStages : 1;
  divide_memory(kernel, arguments.rows <= kTokenBlock, "cuda attention");  // as the products beside it
  start_clusters(launch, "cuda attention", kernel, in_cluster ? blocks.x : 1, blocks, dim3(kAttentionThreads),
                 static_cast<std::size_t>(arguments.stages) * kStage + (in_cluster ? sizeof(ClusterResults<kDim>) : 0),
                 arguments, in_cluster);
}

template <template <int> class Cached>
void start_newest_of_any_width(const AttentionDecodeArguments& arguments, const Launch& launch) {
  const int dim = arguments.kv.head_dim;
  if (dim <= 64) return start_newest<64, Cached<64>>(arguments, launch);
  if (dim <= 96) return start_newest<96, Cached<96>>(arguments, launch);
  start_newest<128, Cached<128>>(arguments, launch);
}

}  // namespace halftone::cuda
