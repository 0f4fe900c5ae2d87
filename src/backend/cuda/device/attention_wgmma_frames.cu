#include "backend/cuda/device/attention_wgmma.cuh"

namespace halftone::cuda {
namespace {

template <int kDim>
void start(const AttentionFramesArguments& arguments, void* workspace, const Launch& launch) {
  // where frames end the kernel finds out; each of them begins with a tile of its own
  const int tiles = (arguments.queries.rows + kAttentionQueries - 1) / kAttentionQueries + arguments.frames - 1;
  start_warpgroups<kDim, FrameSource>(arguments, arguments.queries.rows, arguments.queries.heads, tiles, workspace,
                                      launch);
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

std::int64_t packed_bytes(std::int64_t keys, std::int64_t kv_heads, std::int64_t head_dim) {
  // as many dimensions as the largest kernel that takes them
  const std::int64_t dim = head_dim <= 64 ? 64 : head_dim <= 96 ? 96 : 128;
  return kv_heads * 2 * dim * (keys + PackedKeys::kTileKeys) * static_cast<std::int64_t>(sizeof(std::uint16_t));
}

void start_attention_frames_wgmma(const AttentionFramesArguments& arguments, void* workspace, const Launch& launch) {
  const int dim = arguments.queries.head_dim;
  if (dim <= 64) return start<64>(arguments, workspace, launch);
  if (dim <= 80) return start<80>(arguments, workspace, launch);
  if (dim <= 96) return start<96>(arguments, workspace, launch);
  start<128>(arguments, workspace, launch);
}

}  // namespace halftone::cuda
