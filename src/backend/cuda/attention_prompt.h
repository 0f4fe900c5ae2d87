#pragma once
// ops/attention.h for many queries at once, bf16 in and out: the prompt of a decoder over the paged cache, and pictures.
//
// A query's result depends on its own keys alone: not on the queries beside it, not on how a prompt is cut into calls, not on
// other pictures. Keys are taken in tiles from the first one of the sequence or the frame, sums are f32, and the
// exponentials are rounded to bf16 before they multiply the values; their sum is taken of what they were. Keys and values of
// the 127 rows behind a frame, or of a page's tokens behind a query's last key, must be finite.
// Error against exact arithmetic, with e = head_dim 2^-22 scale sum_j |q_j k_j| (a score's error, the largest one counts):
//   (2^-9 + 2 e + length 2^-22) sum_s p_s |v_s|, then the rounding to bf16
// Throw Error("[cuda attention] ...") when shapes, dtypes or alignments do not fit: heads of up to 128 dimensions, a multiple
// of 8; rows of q, k and v begin at multiples of 16 bytes, rows of `out` at multiples of 4.

#include <cstddef>
#include <span>
#include <string_view>

#include "backend/cuda/device/attention_tiles.h"
#include "backend/cuda/device_matrix.h"

namespace halftone::cuda {

struct AttentionPrompt {
  DeviceMatrix q;             // [tokens, heads head_dim], rotated
  std::int32_t sequence = 0;  // whose keys these are, in the cache already
  std::int64_t first = 0;     // place of query 0: query t sees the keys 0 .. first + t
  float scale = 1.0f;         // positive
  std::int64_t heads = 0;
  DeviceMatrix out;           // [tokens, heads head_dim]
  void* workspace = nullptr;  // attention_prompt_workspace() bytes, or null: then the row "mma" runs
};
// For prompts that see up to `keys` keys of kv_heads heads.
std::size_t attention_prompt_workspace(std::int64_t keys, std::int64_t kv_heads, std::int64_t head_dim);
void attention_prompt(const AttentionPrompt& call, const PagedKv& kv, const Launch& launch,
                      std::string_view kernel = "");

struct AttentionFrames {
  DeviceMatrix qkv;  // [rows, 3 heads head_dim]: all heads of q, rotated, of k, rotated, and of v
  // [frames] on the device, ascending: frame f is the rows frame_ends[f - 1] .. frame_ends[f] - 1, and the last one is rows.
  const std::int32_t* frame_ends = nullptr;
  std::int64_t frames = 0;
  float scale = 1.0f;  // positive
  std::int64_t heads = 0;
  DeviceMatrix out;           // [rows, heads head_dim]
  void* workspace = nullptr;  // the same of `rows` keys and `heads` heads, or null
};
void attention_frames(const AttentionFrames& call, const Launch& launch, std::string_view kernel = "");

struct AttentionRow {
  std::string_view name;
  bool (*supports)();  // this device
  bool needs_workspace;
  void (*prompt)(const AttentionPromptArguments& arguments, void* workspace, const Launch& launch);
  void (*frames)(const AttentionFramesArguments& arguments, void* workspace, const Launch& launch);
};
// Best first; the last one runs on every device. Both ops run the first row that this device supports, or the one named
// `kernel`, and throw when it does not or needs the workspace.
std::span<const AttentionRow> attention_rows();

}  // namespace halftone::cuda
