#pragma once
// The ops of a decoder's step beside its products. Matrices are bf16 unless a line says otherwise. Each throws
// Error("[cuda NAME] ...") when shapes or dtypes do not fit.

#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device_matrix.h"

namespace halftone::cuda {

// y = bf16(bf16(silu(gate)) * up), as ops/elementwise.h in kBF16.  gate_up: [rows, 2 cols], y: [rows, cols].
// Error: the silu is within one bf16 step of the CPU's.
void silu_mul(const DeviceMatrix& gate_up, const DeviceMatrix& y, const Launch& launch);

// y[r] = table[tokens[r]], NaN for a token that is none; or pictures[picture_rows[r]] where that is not -1.
//   table: [vocabulary, cols], pictures: [picture tokens, cols], both without padding, tokens, picture_rows: [rows], the
//   last two may be absent.
struct Embedding {
  DeviceMatrix table;
  const std::int32_t* tokens = nullptr;
  DeviceMatrix y;
  DeviceMatrix pictures;
  const std::int32_t* picture_rows = nullptr;
};
void embedding(const Embedding& call, const Launch& launch);

// Rotates q and k as ops/rope.h in kBF16, bit for bit, and moves k and v into the cache; into one of codes as
// e4m3(clamp(x / scale, -448, 448)) or clamp(rint(x / scale), -127, 127) with NaN as -128, bit for bit what the CPU's cache
// stores.
//   qkv: [tokens, (heads + 2 kv_heads) head_dim]: q stays, rotated.  cos, sin: [tokens, head_dim / 2] f32.
//   positions: [tokens]: rows of cos and sin to take instead of the token's own number; or null.
//   sequences, slots: [tokens]: the sequence of a token and its place in it; their pages must be there.
struct RopeAppend {
  DeviceMatrix qkv;
  const float *cos = nullptr, *sin = nullptr;
  const std::int32_t *sequences = nullptr, *slots = nullptr;
  std::int64_t heads = 0;
  const std::int32_t* positions = nullptr;
};
void rope_append(const RopeAppend& call, const PagedKv& kv, const Launch& launch);

// The first `tokens` keys and values of a sequence in a cache of codes as bf16: code * scale, rounded, which is exact where the
// scale is a power of two. Zeros follow up to the page's end.  target: a bf16 cache of one sequence with room for them.
void unpack_kv(const PagedKv& kv, std::int32_t sequence, std::int64_t tokens, const PagedKv& target,
               const Launch& launch);

// The newest token of each row: rope_append(), then ops/attention.h for its query, which sees the first lengths[row] keys of
// sequences[row] (null: of the sequence of its own number), its own among them as the last. No two rows are of one
// sequence. Of a row without keys nothing is read, appended or written.
//   qkv: [rows, (heads + 2 kv_heads) head_dim], stays as it is; rows begin at multiples of 16 bytes.  out: [rows, heads
//   head_dim], rows at multiples of 8 bytes.  cos, sin, positions: as RopeAppend has them, rows at multiples of 16 bytes.
//   workspace: attention_workspace() floats.  counters: [rows, kv_heads], zeros before and after.
// Everything but qkv is read before the kernel before this one has ended: it must not write them.
// Softmax in f32, the probabilities in 16 bits. Error against exact arithmetic:
// ((length + head_dim) 2^-22 (1 + 2 max |score|) + 2^-17) max |v|, then bf16; keys and values are what the cache holds, codes
// exact. A row's bits hang on its own length alone.
struct AttentionDecode {
  DeviceMatrix qkv;
  const float *cos = nullptr, *sin = nullptr;
  const std::int32_t *positions = nullptr, *sequences = nullptr, *lengths = nullptr;
  std::int64_t longest = 0;  // that lengths may hold
  float scale = 1.0f;        // positive
  std::int64_t heads = 0;
  float* workspace = nullptr;
  std::uint32_t* counters = nullptr;
  DeviceMatrix out;
};
std::int64_t attention_workspace(std::int64_t rows, std::int64_t heads, std::int64_t head_dim);
void attention_decode(const AttentionDecode& call, const PagedKv& kv, const Launch& launch);

// tokens[r] = the first column of the largest logit, gaps[r] = how far the next largest is below it; -1 and NaN where a
// logit is not finite.  logits: [rows, cols] f32.  workspace: argmax_workspace() bytes.
struct Argmax {
  DeviceMatrix logits;
  void* workspace = nullptr;
  std::int32_t* tokens = nullptr;
  float* gaps = nullptr;
};
std::int64_t argmax_workspace(std::int64_t rows);
void argmax(const Argmax& call, const Launch& launch);

}  // namespace halftone::cuda
