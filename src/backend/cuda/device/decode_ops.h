#pragma once
// The small kernels of a decoder's step, by raw pointers. All numbers are bf16 unless a type says otherwise; strides are in
// elements.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

struct SiluMulArguments {
  const std::uint16_t* gate_up;  // [rows, 2 cols]
  std::int64_t gate_up_stride;
  std::uint16_t* y;  // [rows, cols]
  std::int64_t y_stride;
  int rows, cols;
};
void start_silu_mul(const SiluMulArguments& arguments, const Launch& launch);

struct AddArguments {
  const std::uint16_t* a;  // [rows, cols]
  std::int64_t a_stride;
  const std::uint16_t* b;  // [rows, cols]
  std::int64_t b_stride;
  std::uint16_t* y;  // [rows, cols]: y = a + b; it may be one of them
  std::int64_t y_stride;
  int rows, cols;
};
void start_add(const AddArguments& arguments, const Launch& launch);

struct EmbeddingArguments {
  const std::uint16_t* table;        // [vocabulary, cols]
  const std::int32_t* tokens;        // [rows]
  const std::uint16_t* pictures;     // [picture tokens, cols]
  const std::int32_t* picture_rows;  // [rows]: the row of `pictures` that a token stands for, -1: none; or null
  std::uint16_t* y;                  // [rows, cols]
  std::int64_t y_stride;
  int rows, cols, vocabulary;
};
void start_embedding(const EmbeddingArguments& arguments, const Launch& launch);

struct ArrangeInputArguments {
  const std::uint16_t* x;  // [rows, cols]
  std::int64_t x_stride;
  const float* scales;        // [cols], or null
  const std::int32_t* order;  // [cols], or null
  std::uint16_t* y;           // [rows, cols]
  std::int64_t y_stride;
  int rows, cols;
};
void start_arrange_input(const ArrangeInputArguments& arguments, const Launch& launch);

// How keys and values are kept: as they are, or as codes of a byte each: code * scale.
enum class KvElement : int { kBF16, kE4M3, kInt8 };
// Where the keys and values of one layer lie: pages of kPageTokens tokens, [page, kv_heads, kPageTokens, head_dim].
constexpr int kPageTokens = 64;
struct PagedKv {
  std::uint16_t *k, *v;
  const std::int32_t* pages;  // [sequences, pages_per_sequence]: page numbers of a sequence, in order
  int pages_per_sequence, kv_heads, head_dim;
  KvElement element = KvElement::kBF16;
  const float *k_scales = nullptr, *v_scales = nullptr;  // of codes: [kv_heads]

  bool holds_codes() const { return element != KvElement::kBF16; }
};

struct RopeAppendArguments {
  std::uint16_t* qkv;  // [tokens, (heads + 2 kv_heads) head_dim]; q is rotated in place
  std::int64_t qkv_stride;
  const float *cos, *sin;         // [tokens, head_dim / 2]
  const std::int32_t* positions;  // [tokens]: rows of cos and sin; null: the token's own number
  const std::int32_t* sequences;  // [tokens]: whose token it is
  const std::int32_t* slots;      // [tokens]: its place in the sequence
  PagedKv kv;
  int tokens, heads;
};
void start_rope_append(const RopeAppendArguments& arguments, const Launch& launch);

// The first `tokens` keys and values of a sequence, from codes to bf16: code * scale, rounded. Zeros follow up to the page's end.
struct UnpackKvArguments {
  PagedKv codes;
  PagedKv target;  // bf16, of one sequence
  int sequence, tokens;
};
void start_unpack_kv(const UnpackKvArguments& arguments, const Launch& launch);

constexpr int kSplitKeys = 128, kMostSplits = 32;  // keys that a block takes at once, and blocks of a row and key head
constexpr int kMaxHeadDim = 128, kMaxSharedHeads = 8;
constexpr int kPartExtremes = 4;  // floats after a part's result: its largest score, its sum, and two for alignment
struct AttentionDecodeArguments {
  const std::uint16_t* qkv;  // [rows, (heads + 2 kv_heads) head_dim], not rotated
  std::int64_t qkv_stride;
  const float *cos, *sin;         // [positions, head_dim / 2]
  const std::int32_t* positions;  // [rows]: rows of cos and sin; null: the row's own number
  PagedKv kv;
  const std::int32_t* sequences;  // [rows]: whose pages a row reads; null: its own number
  const std::int32_t* lengths;    // [rows]: keys that the query sees, the newest one included; 0: nothing is done
  float scale;
  float* partial;       // [rows, heads, kMostSplits, head_dim + kPartExtremes]
  std::uint32_t* done;  // [rows, kv_heads]: zeros, before and after
  std::uint16_t* out;   // [rows, heads, head_dim]
  std::int64_t out_stride;
  int rows, heads, longest, stages;  // longest: at least the largest length; stages: set when it starts
};
void start_attention_decode(const AttentionDecodeArguments& arguments, const Launch& launch);
// Of a cache that holds codes.
void start_attention_decode_e4m3(const AttentionDecodeArguments& arguments, const Launch& launch);
void start_attention_decode_int8(const AttentionDecodeArguments& arguments, const Launch& launch);

constexpr int kArgmaxBlocks = 64;
// The largest two logits of some columns.
struct LargestTwo {
  float first, second;
  std::int32_t col;  // of the first
};
struct ArgmaxArguments {
  const float* logits;  // [rows, cols]
  std::int64_t stride;
  LargestTwo* parts;     // [rows, kArgmaxBlocks]
  std::int32_t* tokens;  // [rows]
  float* gaps;           // [rows]
  int rows, cols;
};
void start_argmax(const ArgmaxArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
