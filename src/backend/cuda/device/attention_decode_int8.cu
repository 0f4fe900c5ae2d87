#include "backend/cuda/device/attention_decode_kernel.cuh"

namespace halftone::cuda {

void start_attention_decode_int8(const AttentionDecodeArguments& arguments, const Launch& launch) {
  start_newest_of_any_width<Int8Cached>(arguments, launch);
}

}  // namespace halftone::cuda
