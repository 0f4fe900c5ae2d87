#include "backend/cuda/device/attention_mma.cuh"

namespace halftone::cuda {
namespace {

constexpr int kWarps = 8;

template <int kDim>
void start(const AttentionFramesArguments& arguments, const Launch& launch) {
  // where frames end the kernel finds out; each of them begins with a tile of its own
  const int tiles = (arguments.queries.rows + 16 * kWarps - 1) / (16 * kWarps) + arguments.frames - 1;
  start_tiles<kDim, kWarps, FrameSource>(arguments, tiles, launch);
}

}  // namespace

void start_attention_frames_mma(const AttentionFramesArguments& arguments, const Launch& launch) {
  const int dim = arguments.queries.head_dim;
  if (dim <= 64) return start<64>(arguments, launch);
  if (dim <= 80) return start<80>(arguments, launch);
  if (dim <= 96) return start<96>(arguments, launch);
  start<128>(arguments, launch);
}

}  // namespace halftone::cuda
