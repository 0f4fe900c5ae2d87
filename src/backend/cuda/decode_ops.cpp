#include "backend/cuda/decode_ops.h"

#include <algorithm>

#include "backend/cuda/op_profile.h"
#include "base/error.h"

namespace halftone::cuda {
namespace {

void check_matrix(const DeviceMatrix& matrix, DType dtype, std::int64_t rows, std::int64_t cols,
                  std::string_view where) {
  require(matrix.data && matrix.dtype == dtype && matrix.rows == rows && matrix.cols == cols && matrix.stride >= cols,
          where, "expected {} [{}, {}], got {} [{}, {}]", dtype_name(dtype), rows, cols, dtype_name(matrix.dtype),
          matrix.rows, matrix.cols);
}

void start_attention(const AttentionDecodeArguments& arguments, const Launch& launch) {
  switch (arguments.kv.element) {
    case KvElement::kBF16:
      return start_attention_decode(arguments, launch);
    case KvElement::kE4M3:
      return start_attention_decode_e4m3(arguments, launch);
    case KvElement::kInt8:
      return start_attention_decode_int8(arguments, launch);
  }
}

// 16-byte loads of keys need rows of a multiple of 8.
void check_kv(const PagedKv& kv, std::int64_t heads, std::string_view where) {
  require(kv.k && kv.v && kv.pages && kv.kv_heads > 0 && kv.head_dim > 0 && kv.head_dim % 8 == 0 &&
              kv.head_dim <= kMaxHeadDim,
          where, "expected a cache with heads of up to {} dimensions, a multiple of 8, got {} heads of {}", kMaxHeadDim,
          kv.kv_heads, kv.head_dim);
  require(!kv.holds_codes() || (kv.k_scales && kv.v_scales), where, "expected scales of keys and values, found none");
  require(!kv.holds_codes() || kv.head_dim % 16 == 0, where,
          "expected a cache of codes with heads of a multiple of 16 dimensions, got {}", kv.head_dim);
  require(heads > 0 && heads % kv.kv_heads == 0 && heads / kv.kv_heads <= kMaxSharedHeads, where,
          "{} heads do not share {} keys and values, or more than {} share one", heads, kv.kv_heads, kMaxSharedHeads);
}

double bytes_of(const DeviceMatrix& matrix) {
  return static_cast<double>(matrix.rows * matrix.cols) * static_cast<double>(dtype_size(matrix.dtype));
}

bool aligned(const void* address, std::uintptr_t unit) { return reinterpret_cast<std::uintptr_t>(address) % unit == 0; }

std::uint16_t* bf16_data(const DeviceMatrix& matrix) { return static_cast<std::uint16_t*>(matrix.data); }

}  // namespace

void silu_mul(const DeviceMatrix& gate_up, const DeviceMatrix& y, const Launch& launch) {
  check_matrix(gate_up, DType::kBF16, y.rows, 2 * y.cols, "cuda silu_mul");
  check_matrix(y, DType::kBF16, y.rows, y.cols, "cuda silu_mul");
  if (y.rows == 0 || y.cols == 0) return;
  const ProfiledOp watched(launch, "silu_mul", bytes_of(gate_up) + bytes_of(y));
  start_silu_mul(
      {bf16_data(gate_up), gate_up.stride, bf16_data(y), y.stride, static_cast<int>(y.rows), static_cast<int>(y.cols)},
      launch);
}

void embedding(const Embedding& call, const Launch& launch) {
  const DeviceMatrix &table = call.table, &y = call.y;
  check_matrix(table, DType::kBF16, table.rows, y.cols, "cuda embedding");
  check_matrix(y, DType::kBF16, y.rows, y.cols, "cuda embedding");
  require(call.tokens && table.stride == table.cols, "cuda embedding", "expected tokens, and a table without padding");
  if (call.picture_rows) {
    check_matrix(call.pictures, DType::kBF16, call.pictures.rows, y.cols, "cuda embedding");
    require(call.pictures.stride == y.cols, "cuda embedding", "expected pictures without padding");
  }
  if (y.rows == 0 || y.cols == 0) return;
  const ProfiledOp watched(launch, "embedding", 2 * bytes_of(y));
  start_embedding({bf16_data(table), call.tokens, bf16_data(call.pictures), call.picture_rows, bf16_data(y), y.stride,
                   static_cast<int>(y.rows), static_cast<int>(y.cols), static_cast<int>(table.rows)},
                  launch);
}

void rope_append(const RopeAppend& call, const PagedKv& kv, const Launch& launch) {
  check_kv(kv, call.heads, "cuda rope_append");
  check_matrix(call.qkv, DType::kBF16, call.qkv.rows, (call.heads + 2 * kv.kv_heads) * kv.head_dim, "cuda rope_append");
  require(call.cos && call.sin && call.sequences && call.slots, "cuda rope_append",
          "expected rotations, sequences and places of the tokens");
  if (call.qkv.rows == 0) return;
  const ProfiledOp watched(launch, "rope_append", 2 * bytes_of(call.qkv));
  start_rope_append({bf16_data(call.qkv), call.qkv.stride, call.cos, call.sin, call.positions, call.sequences,
                     call.slots, kv, static_cast<int>(call.qkv.rows), static_cast<int>(call.heads)},
                    launch);
}

void unpack_kv(const PagedKv& kv, std::int32_t sequence, std::int64_t tokens, const PagedKv& target,
               const Launch& launch) {
  constexpr std::string_view kWhere = "cuda unpack_kv";
  check_kv(kv, kv.kv_heads, kWhere);
  check_kv(target, kv.kv_heads, kWhere);
  require(kv.holds_codes() && !target.holds_codes() && kv.kv_heads == target.kv_heads &&
              kv.head_dim == target.head_dim && sequence >= 0 && tokens >= 0 &&
              tokens <= std::int64_t{std::min(kv.pages_per_sequence, target.pages_per_sequence)} * kPageTokens,
          kWhere, "{} tokens do not fit from {} pages of codes into {} of bf16", tokens, kv.pages_per_sequence,
          target.pages_per_sequence);
  if (tokens == 0) return;
  const ProfiledOp watched(launch, "unpack_kv", static_cast<double>(tokens * kv.kv_heads * kv.head_dim) * 6);
  start_unpack_kv({kv, target, sequence, static_cast<int>(tokens)}, launch);
}

std::int64_t attention_workspace(std::int64_t rows, std::int64_t heads, std::int64_t head_dim) {
  return rows * heads * kMostSplits * (head_dim + kPartExtremes);
}

void attention_decode(const AttentionDecode& call, const PagedKv& kv, const Launch& launch) {
  constexpr std::string_view kWhere = "cuda attention";
  const DeviceMatrix &qkv = call.qkv, &out = call.out;
  check_kv(kv, call.heads, kWhere);
  check_matrix(qkv, DType::kBF16, qkv.rows, (call.heads + 2 * kv.kv_heads) * kv.head_dim, kWhere);
  check_matrix(out, DType::kBF16, qkv.rows, call.heads * kv.head_dim, kWhere);
  require(aligned(qkv.data, 16) && qkv.stride % 8 == 0 && aligned(out.data, 8) && out.stride % 4 == 0 &&
              aligned(call.cos, 16) && aligned(call.sin, 16) && aligned(call.workspace, 16),
          kWhere, "expected rows that begin at multiples of 16 bytes, got strides of {} and {} elements", qkv.stride,
          out.stride);
  require(call.lengths && call.cos && call.sin && call.workspace && call.counters && call.scale > 0 &&
              call.longest >= 1 && call.longest <= std::int64_t{kv.pages_per_sequence} * kPageTokens,
          kWhere, "{} keys do not fit in {} pages of {}", call.longest, kv.pages_per_sequence, kPageTokens);
  if (qkv.rows == 0) return;
  AttentionDecodeArguments arguments{};
  arguments.qkv = bf16_data(qkv);
  arguments.qkv_stride = qkv.stride;
  arguments.cos = call.cos;
  arguments.sin = call.sin;
  arguments.positions = call.positions;
  arguments.kv = kv;
  arguments.sequences = call.sequences;
  arguments.lengths = call.lengths;
  arguments.scale = call.scale;
  arguments.partial = call.workspace;
  arguments.done = call.counters;
  arguments.out = bf16_data(out);
  arguments.out_stride = out.stride;
  arguments.rows = static_cast<int>(qkv.rows);
  arguments.heads = static_cast<int>(call.heads);
  arguments.longest = static_cast<int>(call.longest);
  const ProfiledOp watched(launch, "attention_decode", 0);  // the lengths lie on the device
  start_attention(arguments, launch);
}

std::int64_t argmax_workspace(std::int64_t rows) {
  return rows * kArgmaxBlocks * static_cast<std::int64_t>(sizeof(LargestTwo));
}

void argmax(const Argmax& call, const Launch& launch) {
  const DeviceMatrix& logits = call.logits;
  check_matrix(logits, DType::kF32, logits.rows, logits.cols, "cuda argmax");
  require(logits.cols > 0 && call.workspace && call.tokens && call.gaps, "cuda argmax",
          "expected logits, a workspace and room for tokens and gaps");
  if (logits.rows == 0) return;
  const ProfiledOp watched(launch, "argmax", bytes_of(logits));
  start_argmax({static_cast<const float*>(logits.data), logits.stride, static_cast<LargestTwo*>(call.workspace),
                call.tokens, call.gaps, static_cast<int>(logits.rows), static_cast<int>(logits.cols)},
               launch);
}

}  // namespace halftone::cuda
