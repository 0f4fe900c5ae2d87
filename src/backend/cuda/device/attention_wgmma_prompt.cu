#include "backend/cuda/device/attention_wgmma.cuh"

namespace halftone::cuda {
namespace {

template <int kDim>
void start(const AttentionPromptArguments& arguments, void* workspace, const Launch& launch) {
  const int rows = arguments.queries.rows;
  start_warpgroups<kDim, PromptSource>(arguments, arguments.first + rows, arguments.kv.kv_heads,
                                       (rows + kAttentionQueries - 1) / kAttentionQueries, workspace, launch);
}

}  // namespace

void start_attention_prompt_wgmma(const AttentionPromptArguments& arguments, void* workspace, const Launch& launch) {
  const int dim = arguments.queries.head_dim;
  if (dim <= 64) return start<64>(arguments, workspace, launch);
  if (dim <= 96) return start<96>(arguments, workspace, launch);
  start<128>(arguments, workspace, launch);
}

}  // namespace halftone::cuda
