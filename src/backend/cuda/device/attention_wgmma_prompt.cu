#include "backend/cuda/device/attention_wgmma.cuh"

namespace halftone::cuda {
namespace {

template <int kDim>
void start(const AttentionPromptArguments& arguments, const Launch& launch) {
  start_warpgroups<kDim, PromptSource>(arguments, (arguments.queries.rows + kAttentionQueries - 1) / kAttentionQueries,
                                       launch);
}

}  // namespace

void start_attention_prompt_wgmma(const AttentionPromptArguments& arguments, const Launch& launch) {
  const int dim = arguments.queries.head_dim;
  if (dim <= 64) return start<64>(arguments, launch);
  if (dim <= 96) return start<96>(arguments, launch);
  start<128>(arguments, launch);
}

}  // namespace halftone::cuda
