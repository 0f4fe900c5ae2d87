// Attention of the newest token of each sequence as a kernel of its own; attention_decode.cuh says how.
#include "backend/cuda/device/attention_decode.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

template <int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2) attend_newest(AttentionDecodeArguments args) {
  __shared__ AttentionScratch<kDim> scratch;
  const NewestAttention<kDim> attention(args, scratch, launch_memory<std::uint16_t>(), blockIdx.z, blockIdx.y,
                                        blockIdx.x);
  if (attention.works()) attention.begin();
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (attention.works()) attention.run();
}

template <int kDim>
void start(AttentionDecodeArguments arguments, int tiles, const Launch& launch) {
  constexpr std::size_t kStage = 2 * DecodeBlock<kDim>::kHalfStage * sizeof(std::uint16_t);
  static_assert(kStage >= kAttentionWarps * kMaxSharedHeads * kDim * sizeof(float), "the results take a stage's place");
  arguments.stages = tiles > kMostSplits ? 2 : 1;
  const auto kernel = attend_newest<kDim>;
  allow_shared_memory(kernel, 2 * kStage, "cuda attention");
  const dim3 blocks(static_cast<unsigned>(tiles < kMostSplits ? tiles : kMostSplits),
                    static_cast<unsigned>(arguments.kv.kv_heads), static_cast<unsigned>(arguments.rows));
  start_kernel(launch, "cuda attention", kernel, blocks, dim3(kAttentionThreads),
               static_cast<std::size_t>(arguments.stages) * kStage, arguments);
}

}  // namespace

void start_attention_decode(const AttentionDecodeArguments& arguments, const Launch& launch) {
  const int tiles = (arguments.longest + kSplitKeys - 1) / kSplitKeys, dim = arguments.kv.head_dim;
  if (dim <= 64) return start<64>(arguments, tiles, launch);
  if (dim <= 96) return start<96>(arguments, tiles, launch);
  start<128>(arguments, tiles, launch);
}

}  // namespace halftone::cuda
