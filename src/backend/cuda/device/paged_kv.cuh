#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/device/decode_ops.h"

namespace halftone::cuda {

// Where the key (the value) in place `slot` of a sequence begins.
__device__ __forceinline__ std::int64_t key_offset(const PagedKv& kv, int sequence, int kv_head, int slot) {
  const std::int64_t page = kv.pages[static_cast<std::int64_t>(sequence) * kv.pages_per_sequence + slot / kPageTokens];
  return ((page * kv.kv_heads + kv_head) * kPageTokens + slot % kPageTokens) * kv.head_dim;
}

}  // namespace halftone::cuda
