#include "backend/cuda/device/attention_wgmma.cuh"

namespace halftone::cuda {
namespace {

template <int kDim>
void start(const AttentionFramesArguments& arguments, const Launch& launch) {
  // where frames end the kernel finds out; each of them begins with a tile of its own
  const int tiles = (arguments.queries.rows + kAttentionQueries - 1) / kAttentionQueries + arguments.frames - 1;
  start_warpgroups<kDim, FrameSource>(arguments, tiles, launch);
}

}  // namespace

bool has_attention_wgmma() {
  static const bool has = [] {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, attend_warpgroups<80, FrameSource>), "cuda attention");
    return attributes.maxThreadsPerBlock >= kAttentionThreads;
  }();
  return has;
}

void start_attention_frames_wgmma(const AttentionFramesArguments& arguments, const Launch& launch) {
  const int dim = arguments.queries.head_dim;
  if (dim <= 64) return start<64>(arguments, launch);
  if (dim <= 80) return start<80>(arguments, launch);
  if (dim <= 96) return start<96>(arguments, launch);
  start<128>(arguments, launch);
}

}  // namespace halftone::cuda
