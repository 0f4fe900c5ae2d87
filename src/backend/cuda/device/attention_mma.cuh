#pragma once
// Attention by tiles with mma.sync: a block takes 16 queries a warp, and all their keys, kTileKeys at a time. While one tile is
// multiplied the next one is copied. The largest score so far and the sum are kept a row; what was summed before a larger
// score came is scaled down (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
// "FlashAttention", 2022).

#include "backend/cuda/device/attention_sources.cuh"
#include "backend/cuda/device/online_softmax.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {

// Four 8 x 8 matrices of bf16 from shared memory; lane 8 i + j gives the address of row j of matrix i.
__device__ __forceinline__ void load_matrices(std::uint32_t (&words)[4], const std::uint16_t* shared) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_transposed(std::uint32_t (&words)[4], const std::uint16_t* shared) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// Rows of head_dim elements in shared memory, zeros up to kDim. Eight more elements a row send the eight rows of a matrix to
// different banks.
template <int kDim>
struct SharedRows {
  static_assert(kDim % 16 == 0, "the matrix units take 16 elements at once");
  static constexpr int kStride = kDim + 8;
  static constexpr int kTile = kTileKeys * kStride;

  // Starts the copies of `count` rows, of which the first `rows` are there.
  template <int kThreads>
  static __device__ __forceinline__ void copy(std::uint16_t* shared, const std::uint16_t* source, std::int64_t stride,
                                              int rows, int count, int head_dim) {
    constexpr int kPieces = kDim / 8;
    for (int i = threadIdx.x; i < count * kPieces; i += kThreads) {
      const int row = i / kPieces, col = i % kPieces * 8;
      const bool there = row < rows && col < head_dim;
      copy_async(shared + row * kStride + col, there ? source + row * stride + col : source, there);
    }
  }
};

template <int kDim>
struct AttentionWarp {
  using Rows = SharedRows<kDim>;
  static constexpr int kScoreBlocks = kTileKeys / 8, kOutBlocks = kDim / 8;

  std::uint32_t queries[kDim / 16][4];
  float out[kOutBlocks][4] = {};
  OnlineSoftmax softmax;

  // shared: the warp's 16 queries
  __device__ __forceinline__ explicit AttentionWarp(const std::uint16_t* shared) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      load_matrices(queries[k], shared + lane % 16 * Rows::kStride + k * 16 + lane / 16 * 8);
    }
  }

  __device__ __forceinline__ void multiply_keys(const std::uint16_t* keys, float (&scores)[kScoreBlocks][4]) const {
    const int lane = threadIdx.x % 32;
    const std::uint16_t* own = keys + (lane / 16 * 8 + lane % 8) * Rows::kStride + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
#pragma unroll
      for (int b = 0; b < kScoreBlocks; b += 2) {
        std::uint32_t words[4];
        load_matrices(words, own + b * 8 * Rows::kStride + k * 16);
        multiply_bf16(scores[b], queries[k], words[0], words[1]);
        multiply_bf16(scores[b + 1], queries[k], words[2], words[3]);
      }
    }
  }

  // weights: [kScoreBlocks][4], rounded to bf16 here
  __device__ __forceinline__ void add_values(const std::uint16_t* values, const float (&weights)[kScoreBlocks][4]) {
    const int lane = threadIdx.x % 32;
    const std::uint16_t* own = values + lane % 16 * Rows::kStride + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kTileKeys / 16; ++k) {
      const float(&low)[4] = weights[2 * k], (&high)[4] = weights[2 * k + 1];
      const std::uint32_t pairs[4] = {pack_bf16x2(low[0], low[1]), pack_bf16x2(low[2], low[3]),
                                      pack_bf16x2(high[0], high[1]), pack_bf16x2(high[2], high[3])};
#pragma unroll
      for (int b = 0; b < kOutBlocks; b += 2) {
        std::uint32_t words[4];
        load_transposed(words, own + k * 16 * Rows::kStride + b * 8);
        multiply_bf16(out[b], pairs, words[0], words[1]);
        multiply_bf16(out[b + 1], pairs, words[2], words[3]);
      }
    }
  }

  // One tile; masked: some row does not see all of it.
  __device__ __forceinline__ void take_tile(const std::uint16_t* keys, const std::uint16_t* values, float step,
                                            bool masked, int first_key, const int (&seen)[2]) {
    float scores[kScoreBlocks][4] = {};
    multiply_keys(keys, scores);
    if (masked) hide_keys(scores, first_key, seen);
    float factors[2];
    softmax.exponentiate(scores, step, factors);
    scale_rows(out, factors);
    add_values(values, scores);
  }
};

// kWarps * 16 queries of one head. Shared memory: two stages of a tile of keys and one of values; the queries pass through the
// second one. Of a tower's heads two blocks share a multiprocessor: one multiplies while the other one exponentiates.
template <int kDim, int kWarps, class Source>
__global__ void __launch_bounds__(32 * kWarps, kDim == 80 ? 2 : 1) attend_tiles(typename Source::Arguments args) {
  using Rows = SharedRows<kDim>;
  constexpr int kThreads = 32 * kWarps, kHeight = 16 * kWarps;
  static_assert(kHeight <= 2 * kTileKeys, "the queries take the place of one stage");
  auto* stages = launch_memory<std::uint16_t>();
  const QueryRows& queries = args.queries;
  const int head = blockIdx.x, warp = threadIdx.x / 32, head_dim = queries.head_dim;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  Source source(args);
  Segment segment;
  if (!source.find(blockIdx.y, kHeight, segment)) return;
  const auto copy_tile = [&](int tile) {
    std::uint16_t* stage = stages + tile % 2 * 2 * Rows::kTile;
    const int rows = segment.keys - tile * kTileKeys;
    Rows::template copy<kThreads>(stage, source.k(tile, head), source.stride(), rows, kTileKeys, head_dim);
    Rows::template copy<kThreads>(stage + Rows::kTile, source.v(tile, head), source.stride(), rows, kTileKeys,
                                  head_dim);
    end_copy_group();
  };
  std::uint16_t* query_stage = stages + 2 * Rows::kTile;
  Rows::template copy<kThreads>(query_stage, queries.q + segment.first_row * queries.q_stride + head * head_dim,
                                queries.q_stride, segment.rows, kHeight, head_dim);
  copy_tile(0);
  wait_for_copy_groups<0>();
  __syncthreads();
  AttentionWarp<kDim> state(query_stage + warp * 16 * Rows::kStride);

  const int row = warp * 16 + threadIdx.x % 32 / 4;
  const int seen[2] = {min(segment.keys, segment.seen + row), min(segment.keys, segment.seen + row + 8)};
  const float step = queries.scale * 1.44269504f;  // log2 e
  for (int tile = 0; tile * kTileKeys < segment.keys; ++tile) {
    wait_for_copy_groups<0>();
    __syncthreads();  // the tile is there for all, and nobody reads the other stage any more
    if ((tile + 1) * kTileKeys < segment.keys) copy_tile(tile + 1);
    const std::uint16_t* stage = stages + tile % 2 * 2 * Rows::kTile;
    const bool masked = (tile + 1) * kTileKeys > segment.seen;
    state.take_tile(stage, stage + Rows::kTile, step, masked, tile * kTileKeys, seen);
  }
  float factors[2];
  state.softmax.finish(factors);
  scale_rows(state.out, factors);
  const bool there[2] = {row < segment.rows, row + 8 < segment.rows};
  store_rows(state.out, queries.out + (segment.first_row + row) * queries.out_stride + head * head_dim,
             queries.out_stride, head_dim, there);
}

// tiles: of kWarps * 16 queries
template <int kDim, int kWarps, class Source>
void start_tiles(const typename Source::Arguments& arguments, int tiles, const Launch& launch) {
  constexpr std::size_t kBytes = 4 * SharedRows<kDim>::kTile * sizeof(std::uint16_t);
  const auto kernel = attend_tiles<kDim, kWarps, Source>;
  allow_shared_memory(kernel, kBytes, "cuda attention");
  const dim3 blocks(static_cast<unsigned>(arguments.queries.heads), static_cast<unsigned>(tiles));
  start_kernel(launch, "cuda attention", kernel, blocks, dim3(32 * kWarps), kBytes, arguments);
}

}  // namespace halftone::cuda
