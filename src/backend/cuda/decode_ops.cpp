#include "backend/cuda/decode_ops.h"

#include "base/error.h"

namespace halftone::cuda {
namespace {

void check_matrix(const DeviceMatrix& matrix, DType dtype, std::int64_t rows, std::int64_t cols,
                  std::string_view where) {
  require(matrix.data && matrix.dtype == dtype && matrix.rows == rows && matrix.cols == cols && matrix.stride >= cols,
          where, "expected {} [{}, {}], got {} [{}, {}]", dtype_name(dtype), rows, cols, dtype_name(matrix.dtype),
          matrix.rows, matrix.cols);
}

// 16-byte loads of keys need rows of a multiple of 8.
void check_kv(const PagedKv& kv, std::int64_t heads, std::string_view where) {
  require(kv.k && kv.v && kv.pages && kv.kv_heads > 0 && kv.head_dim > 0 && kv.head_dim % 8 == 0 &&
              kv.head_dim <= kMaxHeadDim,
          where, "expected a cache with heads of up to {} dimensions, a multiple of 8, got {} heads of {}", kMaxHeadDim,
          kv.kv_heads, kv.head_dim);
  require(heads > 0 && heads % kv.kv_heads == 0 && heads / kv.kv_heads <= kMaxSharedHeads, where,
          "{} heads do not share {} keys and values, or more than {} share one", heads, kv.kv_heads, kMaxSharedHeads);
}

std::uint16_t* bf16_data(const DeviceMatrix& matrix) { return static_cast<std::uint16_t*>(matrix.data); }

}  // namespace

void silu_mul(const DeviceMatrix& gate_up, const DeviceMatrix& y, const Launch& launch) {
  check_matrix(gate_up, DType::kBF16, y.rows, 2 * y.cols, "cuda silu_mul");
  check_matrix(y, DType::kBF16, y.rows, y.cols, "cuda silu_mul");
  if (y.rows == 0 || y.cols == 0) return;
  start_silu_mul(
      {bf16_data(gate_up), gate_up.stride, bf16_data(y), y.stride, static_cast<int>(y.rows), static_cast<int>(y.cols)},
      launch);
}

void embedding(const DeviceMatrix& table, const std::int32_t* tokens, const DeviceMatrix& y, const Launch& launch) {
  check_matrix(table, DType::kBF16, table.rows, y.cols, "cuda embedding");
  check_matrix(y, DType::kBF16, y.rows, y.cols, "cuda embedding");
  require(tokens && table.stride == table.cols, "cuda embedding", "expected tokens, and a table without padding");
  if (y.rows == 0 || y.cols == 0) return;
  start_embedding({bf16_data(table), tokens, bf16_data(y), y.stride, static_cast<int>(y.rows), static_cast<int>(y.cols),
                   static_cast<int>(table.rows)},
                  launch);
}

void rope_append(const RopeAppend& call, const PagedKv& kv, const Launch& launch) {
  check_kv(kv, call.heads, "cuda rope_append");
  check_matrix(call.qkv, DType::kBF16, call.qkv.rows, (call.heads + 2 * kv.kv_heads) * kv.head_dim, "cuda rope_append");
  require(call.cos && call.sin && call.sequences && call.slots, "cuda rope_append",
          "expected rotations, sequences and places of the tokens");
  if (call.qkv.rows == 0) return;
  start_rope_append({bf16_data(call.qkv), call.qkv.stride, call.cos, call.sin, call.sequences, call.slots, kv,
                     static_cast<int>(call.qkv.rows), static_cast<int>(call.heads)},
                    launch);
}

std::int64_t attention_workspace(std::int64_t sequences, std::int64_t heads, std::int64_t head_dim,
                                 std::int64_t longest) {
  return sequences * heads * ((longest + kSplitKeys - 1) / kSplitKeys) * (head_dim + 2);
}

void attention_decode(const AttentionDecode& call, const PagedKv& kv, const Launch& launch) {
  constexpr std::string_view kWhere = "cuda attention";
  check_kv(kv, call.heads, kWhere);
  check_matrix(call.q, DType::kBF16, call.q.rows, call.heads * kv.head_dim, kWhere);
  check_matrix(call.out, DType::kBF16, call.q.rows, call.heads * kv.head_dim, kWhere);
  require(call.lengths && call.workspace && call.longest >= 1 &&
              call.longest <= std::int64_t{kv.pages_per_sequence} * kPageTokens,
          kWhere, "{} keys do not fit in {} pages of {}", call.longest, kv.pages_per_sequence, kPageTokens);
  if (call.q.rows == 0) return;
  start_attention_decode({bf16_data(call.q), call.q.stride, kv, call.lengths, call.scale, call.workspace,
                          bf16_data(call.out), call.out.stride, static_cast<int>(call.q.rows),
                          static_cast<int>(call.heads), static_cast<int>((call.longest + kSplitKeys - 1) / kSplitKeys)},
                         launch);
}

std::int64_t argmax_workspace(std::int64_t rows) {
  return rows * kArgmaxBlocks * static_cast<std::int64_t>(sizeof(float) + sizeof(std::int32_t));
}

void argmax(const DeviceMatrix& logits, void* workspace, std::int32_t* tokens, const Launch& launch) {
  check_matrix(logits, DType::kF32, logits.rows, logits.cols, "cuda argmax");
  require(logits.cols > 0 && workspace && tokens, "cuda argmax", "expected logits, a workspace and room for tokens");
  if (logits.rows == 0) return;
  auto* best = static_cast<float*>(workspace);
  auto* best_col = reinterpret_cast<std::int32_t*>(best + logits.rows * kArgmaxBlocks);
  start_argmax({static_cast<const float*>(logits.data), logits.stride, best, best_col, tokens,
                static_cast<int>(logits.rows), static_cast<int>(logits.cols)},
               launch);
}

}  // namespace halftone::cuda
