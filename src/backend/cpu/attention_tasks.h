#pragma once
// How the CPU cuts attention() into pieces of work.

#include "ops/attention_kernels.h"

namespace halftone {

// Keys are transposed in blocks of this many, so that each lane holds one key.
constexpr std::int64_t kKeyBlock = 16;

// Consecutive tokens with the same first key, and the `share` query heads of one key-value head: `count` queries, heads
// innermost.
struct AttentionTask {
  const float* first_q = nullptr;  // of the first token and head
  float* first_out = nullptr;
  std::int64_t token_stride = 0;  // floats from token to token
  std::int64_t share = 1;
  std::int64_t count = 0;
  std::int64_t d = 0;
  const AttentionRange* ranges = nullptr;  // of the first token
  std::int64_t begin = 0;                  // the first key of all
  const float* k = nullptr;                // [length, d]
  const float* v = nullptr;
  const float* transposed = nullptr;  // [length / 16][d][16], or null: each task transposes for itself
  float scale = 1.0f;
  Numerics numerics = Numerics::kF32;

  const float* q(std::int64_t r) const { return first_q + r / share * token_stride + r % share * d; }
  float* out(std::int64_t r) const { return first_out + r / share * token_stride + r % share * d; }
  std::int64_t end(std::int64_t r) const { return ranges[r / share].end; }
};

}  // namespace halftone
