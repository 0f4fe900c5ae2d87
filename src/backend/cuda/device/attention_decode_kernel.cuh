#pragma once
// Attention of the newest token of each sequence as a kernel of its own; attention_decode.cuh says how.
#include "backend/cuda/device/attention_decode.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {

template <int kDim, class Cached>
__global__ void __launch_bounds__(kAttentionThreads, 2) attend_newest(AttentionDecodeArguments args) {
  __shared__ AttentionScratch<kDim> scratch;
  const NewestAttention<kDim, Cached> attention(args, scratch, launch_memory<std::uint16_t>(), blockIdx.z, blockIdx.y,
                                                blockIdx.x);
  if (attention.works()) attention.begin();
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (attention.works()) attention.run();
}

template <int kDim, class Cached>
void start_newest(AttentionDecodeArguments arguments, const Launch& launch) {
  constexpr std::size_t kStage = DecodeBlock<kDim, Cached>::kStageBytes;
  static_assert(kStage >= kAttentionWarps * kMaxSharedHeads * kDim * sizeof(float), "the results take a stage's place");
  const int tiles = (arguments.longest + kSplitKeys - 1) / kSplitKeys;
  arguments.stages = tiles > kMostSplits ? 2 : 1;
  const auto kernel = attend_newest<kDim, Cached>;
  allow_shared_memory(kernel, 2 * kStage, "cuda attention");
  const dim3 blocks(static_cast<unsigned>(tiles < kMostSplits ? tiles : kMostSplits),
                    static_cast<unsigned>(arguments.kv.kv_heads), static_cast<unsigned>(arguments.rows));
  start_kernel(launch, "cuda attention", kernel, blocks, dim3(kAttentionThreads),
               static_cast<std::size_t>(arguments.stages) * kStage, arguments);
}

template <template <int> class Cached>
void start_newest_of_any_width(const AttentionDecodeArguments& arguments, const Launch& launch) {
  const int dim = arguments.kv.head_dim;
  if (dim <= 64) return start_newest<64, Cached<64>>(arguments, launch);
  if (dim <= 96) return start_newest<96, Cached<96>>(arguments, launch);
  start_newest<128, Cached<128>>(arguments, launch);
}

}  // namespace halftone::cuda
