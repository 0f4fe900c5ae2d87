#pragma once
// The ops of a decoder's step beside its products. Matrices are bf16 unless a line says otherwise. Each throws
// Error("[cuda NAME] ...") when shapes or dtypes do not fit.

#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device_matrix.h"

namespace halftone::cuda {

// y = bf16(bf16(silu(gate)) * up), as ops/elementwise.h in kBF16.  gate_up: [rows, 2 cols], y: [rows, cols].
// Error: the silu is within one bf16 step of the CPU's.
void silu_mul(const DeviceMatrix& gate_up, const DeviceMatrix& y, const Launch& launch);

// y[r] = table[tokens[r]], NaN for a token that is none.  table: [vocabulary, cols] without padding, tokens: [rows].
void embedding(const DeviceMatrix& table, const std::int32_t* tokens, const DeviceMatrix& y, const Launch& launch);

// Rotates q and k as ops/rope.h in kBF16, bit for bit, and moves k and v into the cache.
//   qkv: [tokens, (heads + 2 kv_heads) head_dim]: q stays, rotated.  cos, sin: [tokens, head_dim / 2] f32.
//   sequences, slots: [tokens]: the sequence of a token and its place in it; their pages must be there.
struct RopeAppend {
  DeviceMatrix qkv;
  const float *cos = nullptr, *sin = nullptr;
  const std::int32_t *sequences = nullptr, *slots = nullptr;
  std::int64_t heads = 0;
};
void rope_append(const RopeAppend& call, const PagedKv& kv, const Launch& launch);

// ops/attention.h for one query a sequence, which sees the first lengths[sequence] >= 1 keys; lengths lie on the device.
//   q, out: [sequences, heads head_dim].  workspace: attention_workspace() floats.
// Softmax in f32 without rounding the probabilities, in splits of kSplitKeys keys. Error against exact arithmetic:
// (length + head_dim) 2^-22 (1 + 2 max |score|) max |v|, then bf16.
struct AttentionDecode {
  DeviceMatrix q;
  const std::int32_t* lengths = nullptr;
  std::int64_t longest = 0;  // that lengths may hold
  float scale = 1.0f;
  std::int64_t heads = 0;
  float* workspace = nullptr;
  DeviceMatrix out;
};
std::int64_t attention_workspace(std::int64_t sequences, std::int64_t heads, std::int64_t head_dim,
                                 std::int64_t longest);
void attention_decode(const AttentionDecode& call, const PagedKv& kv, const Launch& launch);

// tokens[r] = the first column of the largest logit, -1 where a logit is NaN.  logits: [rows, cols] f32.
//   workspace: argmax_workspace() bytes.
std::int64_t argmax_workspace(std::int64_t rows);
void argmax(const DeviceMatrix& logits, void* workspace, std::int32_t* tokens, const Launch& launch);

}  // namespace halftone::cuda
