#include "backend/cuda/device/attention_mma.cuh"

namespace halftone::cuda {
namespace {

constexpr int kWarps = 4;

template <int kDim>
void start(const AttentionPromptArguments& arguments, const Launch& launch) {
  start_tiles<kDim, kWarps, PromptSource>(arguments, (arguments.queries.rows + 16 * kWarps - 1) / (16 * kWarps),
                                          launch);
}

}  // namespace

void start_attention_prompt_mma(const AttentionPromptArguments& arguments, const Launch& launch) {
  const int dim = arguments.queries.head_dim;
  if (dim <= 64) return start<64>(arguments, launch);
  if (dim <= 96) return start<96>(arguments, launch);
  start<128>(arguments, launch);
}

}  // namespace halftone::cuda
