#pragma once
// What a block does of a product for some tens of tokens, and for three to eight where linear_decode.cuh has no room for their
// rows of x, or takes longer.
//
// Reading x again for each pair of tiles would take longer than reading W. So a block takes kPairs pairs at once, and chunks of
// x go to the ring beside those of W. Where K is split over more than its kBatchWarps warps, the blocks of a cluster have the
// others and finish the sums together: the order of summation is that of weight_chunks.cuh, and the bits are those of
// linear_decode.cuh.

#include "backend/cuda/device/weight_chunks.cuh"

namespace halftone::cuda {

constexpr int kBatchWarps = 4, kBatchThreads = 32 * kBatchWarps;  // of a block

// A chunk of K: of kPairs pairs of tiles, and each lane's pieces of x, of kBlocks blocks of tokens.
template <class Format, int kPairs, int kBlocks>
struct BatchStage {
  typename Format::Slot tiles[kPairs * kTiles];
  uint4 x[kBlocks][Format::Words::kPieces][32];
};

// Shared memory of a block: the rings of its warps, whose place their sums take, and the terms of its rows.
template <class Format, int kPairs, int kBlocks>
struct BatchMemory {
  using Sum = typename Format::Sum;
  using Stage = BatchStage<Format, kPairs, kBlocks>;
  static constexpr int kRows = kPairs * kTiles * kTileRows, kTokens = kBlocks * kTokenBlock;
  static constexpr int kSums = kRows * kTokens;  // [kPairs, kTiles, tokens, 8 rows]
  // as many stages as leave room for as many blocks as there are registers for, two or three
  static constexpr int kRoom = (kBlocks > 4 ? 108 : 72) * 1024;
  static constexpr int kFit = kRoom / (kBatchWarps * static_cast<int>(sizeof(Stage)));
  static constexpr int kStages = kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static_assert(kStages * sizeof(Stage) >= kSums * sizeof(Sum) && kRows <= kBatchThreads);

  Stage rings[kBatchWarps][kStages];
  RowTerms terms[kRows];

  __device__ __forceinline__ Sum (*sums())[kSums] { return reinterpret_cast<Sum(*)[kSums]>(rings); }
};

// A warp's ring, and its copies of the chunks warp, warp + warps, ...
template <class Format, int kPairs, int kBlocks>
struct BatchRing {
  using Words = typename Format::Words;
  using Memory = BatchMemory<Format, kPairs, kBlocks>;
  using Stage = typename Memory::Stage;
  static constexpr int kSize = static_cast<int>(sizeof(typename Format::XElement)), kStages = Memory::kStages;

  const LinearArguments& args;
  Stage* stages;
  const int warp, warps, chunks = chunks_of<Format>(args);
  typename Format::Tile tiles[kPairs * kTiles];
  int weight_chunk = warp, x_chunk = warp, stage = 0;

  __device__ __forceinline__ BatchRing(const LinearArguments& arguments, Stage* memory, int first_pair, int own,
                                       int all)
      : args(arguments), stages(memory), warp(own), warps(all) {
    const int last = pairs_of(args) - 1;
#pragma unroll
    for (int i = 0; i < kPairs * kTiles; ++i) {
      tiles[i] = Format::tile(args, tile_of(args, min(first_pair + i / kTiles, last), i % kTiles));
    }
  }

  __device__ __forceinline__ void begin_weights() {
#pragma unroll
    for (int s = 0; s < kStages; ++s) copy_weights(stages[s]);
  }
  __device__ __forceinline__ void begin_x() {
#pragma unroll
    for (int s = 0; s < kStages; ++s) {
      copy_x(stages[s]);
      end_copy_group();
    }
  }
  __device__ __forceinline__ const Stage& take() const {
    wait_for_copy_groups<kStages - 1>();
    if constexpr (Format::kShares) __syncwarp();
    return stages[stage];
  }
  __device__ __forceinline__ void give_back() {
    if constexpr (Format::kShares) __syncwarp();
    copy_weights(stages[stage]);
    copy_x(stages[stage]);
    end_copy_group();
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

 private:
  __device__ __forceinline__ void copy_weights(Stage& target) {
    if (weight_chunk >= chunks) return;
#pragma unroll
    for (int i = 0; i < kPairs * kTiles; ++i) Format::copy(args, tiles[i], weight_chunk, target.tiles[i]);
    weight_chunk += warps;
  }
  // A lane copies what it will multiply. Zeros behind the end of a row, and for tokens that are not there: asking for another
  // one's in their stead would have all blocks ask for the same bytes.
  __device__ __forceinline__ void copy_x(Stage& target) {
    if (x_chunk >= chunks) return;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int p = 0; p < Words::kPieces; ++p) {
      const int k = x_chunk * Words::kChunk + Words::offset(lane % 4, p);
      const int bytes = max(0, min(kPieceBytes, (args.k - k) * kSize));
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const int token = b * kTokenBlock + lane / 4;
        const bool there = token < args.m && bytes > 0;
        copy_part_async(&target.x[b][p][lane], there ? args.x + token * args.x_stride + k * kSize : args.x,
                        there ? bytes : 0);
      }
    }
    x_chunk += warps;
  }
};

// y of a group of pairs from `first_pair` on, from the sums of the cluster's blocks. An element is one thread's; a few are
// under way at once, for each waits for the sums of other blocks and for its residual.
template <class Format, int kPairs, int kBlocks>
__device__ __forceinline__ void store_group(const LinearArguments& args, BatchMemory<Format, kPairs, kBlocks>& memory,
                                            int first_pair) {
  using Sum = typename Format::Sum;
  constexpr int kOutputs = kBlocks * kTokenBlock * kTileRows, kAtOnce = 4;
  const int blocks = cluster_blocks(), thread = cluster_rank() * kBatchThreads + static_cast<int>(threadIdx.x);
  const int tiles = args.silu_mul ? 1 : kTiles, all_tiles = (args.n + kTileRows - 1) / kTileRows;
  const int last_pair = pairs_of(args) - 1;
  const auto sum_at = [&](int pair, int at) {
    const Sum* own = memory.sums()[0] + pair * kTiles * kOutputs + at;
    Sum sum = *cluster_shared(own, 0);
    for (int r = 1; r < blocks; ++r) sum += *cluster_shared(own, r);
    return static_cast<float>(sum);
  };
  // elements in the order [kPairs, tiles, tokens, 8 rows]
  const int count = kPairs * tiles * kOutputs, step = blocks * kBatchThreads;
  for (int begin = thread; begin < count; begin += kAtOnce * step) {
    float values[kAtOnce];
    std::uint16_t residuals[kAtOnce];
    int rows[kAtOnce], tokens[kAtOnce];  // a row -1: nothing
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int element = begin + i * step, at = element % kOutputs, place = element / kOutputs;
      const int pair = args.silu_mul ? place : place / kTiles, tile = args.silu_mul ? 0 : place % kTiles;
      rows[i] = -1;
      tokens[i] = at / kTileRows;
      if (element >= count || tokens[i] >= args.m || first_pair + pair > last_pair) continue;
      const int tile_number = args.silu_mul ? first_pair + pair : (first_pair + pair) * kTiles + tile;
      const int row = tile_number * kTileRows + at % kTileRows;
      if (tile_number >= all_tiles || row >= args.n) continue;
      rows[i] = row;
      const float x_scale = args.x_scales ? args.x_scales[tokens[i]] : 1.0f;
      const RowTerms* terms = memory.terms + (pair * kTiles + tile) * kTileRows + at % kTileRows;
      values[i] = terms[0].value(sum_at(pair, tile * kOutputs + at), x_scale);
      if (args.silu_mul) {
        const float up = terms[kTileRows].value(sum_at(pair, kOutputs + at), x_scale);
        values[i] = silu_product(round_bf16(values[i]), round_bf16(up));
      }
      residuals[i] = load_residual(args, tokens[i], row);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (rows[i] >= 0) store_result(args, tokens[i], rows[i], values[i], residuals[i]);
    }
  }
}

// warps: those that K is split over, the cluster's.
template <class Format, int kPairs, int kBlocks>
__device__ __forceinline__ void multiply_batch(const LinearArguments& args, int warps) {
  using Memory = BatchMemory<Format, kPairs, kBlocks>;
  const int own = threadIdx.x / 32, lane = threadIdx.x % 32, warp = cluster_rank() * kBatchWarps + own;
  const int first_pair = static_cast<int>(blockIdx.x) / cluster_blocks() * kPairs, last_pair = pairs_of(args) - 1;
  auto& memory = *launch_memory<Memory>();
  BatchRing<Format, kPairs, kBlocks> ring(args, memory.rings[own], first_pair, warp, warps);
  // the weights do not depend on earlier kernels: their first copies are under way before x is there
  ring.begin_weights();
  if (static_cast<int>(threadIdx.x) < Memory::kRows) {
    const int tile = static_cast<int>(threadIdx.x) / kTileRows, pair = min(first_pair + tile / kTiles, last_pair);
    const int row = tile_of(args, pair, tile % kTiles) * kTileRows + static_cast<int>(threadIdx.x) % kTileRows;
    memory.terms[threadIdx.x] = RowTerms(args, min(row, args.n - 1));
  }
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  ring.begin_x();
  typename Format::Sum total[kPairs][kBlocks][4];
#pragma unroll
  for (int p = 0; p < kPairs; ++p) clear_sums(total[p]);
  for (int chunk = warp; chunk < ring.chunks; chunk += warps) {
    const auto& stage = ring.take();
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      Format::multiply(
          args, stage.tiles + p * kTiles, chunk, [&](int b, int piece) { return stage.x[b][piece][lane]; }, total[p]);
    }
    ring.give_back();
  }
  wait_for_copy_groups<0>();
  __syncthreads();
#pragma unroll
  for (int p = 0; p < kPairs; ++p) store_sums(total[p], memory.sums()[own] + p * (Memory::kSums / kPairs));
  __syncthreads();
  auto* sums = memory.sums()[0];
#pragma unroll 4
  for (int i = threadIdx.x; i < Memory::kSums; i += kBatchThreads) sums[i] = sum_of_four(sums + i, Memory::kSums);
  cluster_barrier();
  store_group<Format, kPairs, kBlocks>(args, memory, first_pair);
  if (cluster_blocks() > 1) cluster_barrier();  // others read this block's sums
}

}  // namespace halftone::cuda
