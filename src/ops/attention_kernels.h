#pragma once
// What attention's reference and its kernels share.

#include "ops/attention.h"

namespace halftone {

// The CPU's half of attention(), called after the checks.
void attention_cpu(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
                   Numerics numerics, Tensor& out, Stream& stream);

// The sum of the exponentials runs in this many parts, key s into part (s - begin) mod kSumParts.
constexpr int kSumParts = 16;

// The parts' sum: halves are added until one value is left.
inline float sum_parts(const float* parts) {
  float sums[kSumParts];
  for (int i = 0; i < kSumParts; ++i) sums[i] = parts[i];
  for (int half = kSumParts / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace halftone
