#pragma once
// out[t, h, :] = sum_s softmax_s(q[t, h, :] . k[s, h', :] * scale) * v[s, h', :],   h' = h / (heads / kv_heads)
//
// q, out: [tokens, heads, d] f32.  k, v: one contiguous [length, d] f32 array for each key-value head.
// Query t sees the keys s in [begin[t], end[t]): causal decoding and prefill (0, position + 1), pictures of one ragged
// call (the picture's own range).  Softmax in f32 over all visible keys (not online): maximum, exp(x - max), sum,
// divide. Each output element depends on its query and its keys alone: the sums over d run upwards from d = 0 by fma,
// those over s upwards by fma; the sum of the exponentials is taken in 16 interleaved partial sums ((s - begin) mod 16)
// that are added in a fixed tree, so that a picture's place in a ragged call does not matter.  In kBF16 the
// probabilities and the result are rounded to bf16. Error against exact arithmetic: some (d + length) ulp of the
// largest |v|.

#include <span>

#include "ops/norm.h"

namespace halftone {

// Keys and values of one sequence and one layer, decoded to f32.
struct AttentionKv {
  std::span<const float* const> k;  // [kv_heads] pointers to [length, d]
  std::span<const float* const> v;
};

struct AttentionRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// ranges: [tokens].
void attention(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
               Numerics numerics, Tensor& out, Stream& stream);

void attention_reference(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
                         Numerics numerics, Tensor& out);

}  // namespace halftone
