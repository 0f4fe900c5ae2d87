#include "backend/cuda/attention_prompt.h"

#include <limits>

#include "base/error.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda attention";
constexpr AttentionRow kRows[] = {
    {"wgmma", has_attention_wgmma, true, start_attention_prompt_wgmma, start_attention_frames_wgmma},
    {"mma", [] { return true; }, false,
     [](const AttentionPromptArguments& arguments, void*, const Launch& launch) {
       start_attention_prompt_mma(arguments, launch);
     },
     [](const AttentionFramesArguments& arguments, void*, const Launch& launch) {
       start_attention_frames_mma(arguments, launch);
     }},
};

const AttentionRow& choose_row(std::string_view kernel, const void* workspace) {
  for (const AttentionRow& row : kRows) {
    if ((kernel.empty() || row.name == kernel) && row.supports() && (workspace || !row.needs_workspace)) return row;
  }
  fail(kWhere, "no kernel '{}' for this device, or no workspace for it", kernel);
}

constexpr std::int64_t kMostBlocks = 65535;  // of a launch's second dimension

bool begins_at(const void* address, std::int64_t stride, std::uintptr_t alignment) {
  const auto stride_bytes = static_cast<std::uintptr_t>(stride) * sizeof(std::uint16_t);
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0 && stride_bytes % alignment == 0;
}

void check_rows(const DeviceMatrix& matrix, std::int64_t rows, std::int64_t cols, std::uintptr_t alignment) {
  require(matrix.data && matrix.dtype == DType::kBF16 && matrix.rows == rows && matrix.cols == cols &&
              matrix.stride >= cols && begins_at(matrix.data, matrix.stride, alignment),
          kWhere, "expected BF16 [{}, {}] with rows at multiples of {} bytes, got {} [{}, {}], stride {}", rows, cols,
          alignment, dtype_name(matrix.dtype), matrix.rows, matrix.cols, matrix.stride);
}

void check_heads(std::int64_t heads, std::int64_t head_dim, float scale) {
  require(heads > 0 && head_dim > 0 && head_dim % 8 == 0 && head_dim <= kMaxHeadDim && scale > 0, kWhere,
          "expected heads of up to {} dimensions, a multiple of 8, and a positive scale, got {} of {}, scale {}",
          kMaxHeadDim, heads, head_dim, scale);
}

QueryRows query_rows(const DeviceMatrix& q, const DeviceMatrix& out, float scale, std::int64_t heads,
                     std::int64_t head_dim) {
  return {static_cast<const std::uint16_t*>(q.data),
          q.stride,
          static_cast<std::uint16_t*>(out.data),
          out.stride,
          scale,
          static_cast<int>(q.rows),
          static_cast<int>(heads),
          static_cast<int>(head_dim)};
}

}  // namespace

std::span<const AttentionRow> attention_rows() { return kRows; }

std::size_t attention_prompt_workspace(std::int64_t keys, std::int64_t kv_heads, std::int64_t head_dim) {
  return static_cast<std::size_t>(packed_bytes(keys, kv_heads, head_dim));
}

void attention_prompt(const AttentionPrompt& call, const PagedKv& kv, const Launch& launch, std::string_view kernel) {
  check_heads(call.heads, kv.head_dim, call.scale);
  require(kv.k && kv.v && kv.pages && kv.kv_heads > 0 && call.heads % kv.kv_heads == 0, kWhere,
          "{} heads do not share {} keys and values", call.heads, kv.kv_heads);
  require(!kv.holds_codes(), kWhere, "expected a cache in bf16; codes are unpacked first");
  require(begins_at(kv.k, 0, 16) && begins_at(kv.v, 0, 16), kWhere, "a cache begins at a multiple of 16 bytes");
  check_rows(call.q, call.q.rows, call.heads * kv.head_dim, 16);
  check_rows(call.out, call.q.rows, call.heads * kv.head_dim, 4);
  require(call.sequence >= 0 && call.first >= 0 &&
              call.first + call.q.rows <= std::int64_t{kv.pages_per_sequence} * kPageTokens,
          kWhere, "{} queries from place {} on do not fit in {} pages of {}", call.q.rows, call.first,
          kv.pages_per_sequence, kPageTokens);
  if (call.q.rows == 0) return;
  choose_row(kernel, call.workspace)
      .prompt({query_rows(call.q, call.out, call.scale, call.heads, kv.head_dim), kv, call.sequence,
               static_cast<int>(call.first)},
              call.workspace, launch);
}

void attention_frames(const AttentionFrames& call, const Launch& launch, std::string_view kernel) {
  require(call.heads > 0 && call.qkv.cols % (3 * call.heads) == 0, kWhere, "{} columns are not q, k and v of {} heads",
          call.qkv.cols, call.heads);
  const std::int64_t width = call.qkv.cols / 3;
  check_heads(call.heads, width / call.heads, call.scale);
  check_rows(call.qkv, call.qkv.rows, 3 * width, 16);
  check_rows(call.out, call.qkv.rows, width, 4);
  require(call.qkv.rows <= std::numeric_limits<std::int32_t>::max() && call.frames <= kMostBlocks / 2 &&
              call.qkv.rows / kTileKeys <= kMostBlocks / 2,
          kWhere, "{} rows in {} frames are more than one call takes", call.qkv.rows, call.frames);
  if (call.qkv.rows == 0) return;
  require(call.frame_ends && call.frames > 0, kWhere, "expected the ends of frames, got {} of them", call.frames);
  const QueryRows queries = query_rows(call.qkv, call.out, call.scale, call.heads, width / call.heads);
  choose_row(kernel, call.workspace)
      .frames({queries, queries.q + width, queries.q + 2 * width, call.qkv.stride, call.frame_ends,
               static_cast<int>(call.frames)},
              call.workspace, launch);
}

}  // namespace halftone::cuda
