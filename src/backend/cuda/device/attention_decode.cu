#include "backend/cuda/device/attention_decode_kernel.cuh"

namespace halftone::cuda {

void start_attention_decode(const AttentionDecodeArguments& arguments, const Launch& launch) {
  start_newest_of_any_width<Bf16Cached>(arguments, launch);
}

}  // namespace halftone::cuda
