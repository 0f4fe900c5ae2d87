#pragma once
// Attention of many queries by tiles, by raw pointers. Numbers are bf16, strides are in elements; rows of q, k and v begin at
// multiples of 16 bytes, rows of the result at multiples of 4. Heads lie beside each other in a row.

#include "backend/cuda/device/decode_ops.h"

namespace halftone::cuda {

// Keys that are multiplied at once. Tiles begin with the first key of a sequence or a frame, and so the order of all sums
// follows from a query's place and its own keys. A page of the cache is a tile.
constexpr int kTileKeys = kPageTokens;

struct QueryRows {
  const std::uint16_t* q;  // [rows, heads head_dim]
  std::int64_t q_stride;
  std::uint16_t* out;  // [rows, heads head_dim]
  std::int64_t out_stride;
  float scale;  // positive
  int rows, heads, head_dim;
};

// Every row sees all rows of its frame.
struct AttentionFramesArguments {
  QueryRows queries;
  const std::uint16_t *k, *v;  // [rows, heads head_dim]
  std::int64_t kv_stride;
  const std::int32_t* frame_ends;  // [frames], ascending, the last one is rows
  int frames;
};

// Query t of one sequence sees the keys 0 .. first + t.
struct AttentionPromptArguments {
  QueryRows queries;
  PagedKv kv;
  int sequence, first;
};

// By the matrix units' instructions of compute capability 8.0 and up.
void start_attention_frames_mma(const AttentionFramesArguments& arguments, const Launch& launch);
void start_attention_prompt_mma(const AttentionPromptArguments& arguments, const Launch& launch);

// By those of compute capability 9.0a: whether this device has them and the program holds code for them.
bool has_attention_wgmma();
// workspace: packed_bytes(), at a multiple of 16 bytes; keys: all rows, or first + rows of a prompt.
std::int64_t packed_bytes(std::int64_t keys, std::int64_t kv_heads, std::int64_t head_dim);
void start_attention_frames_wgmma(const AttentionFramesArguments& arguments, void* workspace, const Launch& launch);
void start_attention_prompt_wgmma(const AttentionPromptArguments& arguments, void* workspace, const Launch& launch);

}  // namespace halftone::cuda
