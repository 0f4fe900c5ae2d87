#pragma once
// Attention by tiles with wgmma: a block takes 128 queries, 64 for each of two warpgroups that multiply, and 128 keys at a
// time, which a warp of the third copies. The scores of a tile are started together with the product of the weights and the
// values of the tile before; the two warpgroups take turns at the matrix units, so that one of them exponentiates while the
// other one multiplies (Shah et al., "FlashAttention-3", 2024). The compiler places the wait for both products before the
// exponentials; to force it behind them took as long for pictures and 6 % longer for prompts on an H200.
//
// A first kernel brings keys and values into the order in which the matrix units read them: for each head all keys eight
// dimensions at a time, 16 bytes a key. What a tile needs of eight dimensions is contiguous then, wherever it begins, and is
// copied by one instruction. (Copies of 16 bytes each by threads were what bounded this kernel.)

#include "backend/cuda/device/attention_sources.cuh"
#include "backend/cuda/device/barrier.cuh"
#include "backend/cuda/device/online_softmax.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/warpgroup.cuh"

namespace halftone::cuda {

constexpr int kWarpgroup = 128, kAttentionThreads = 3 * kWarpgroup, kAttentionQueries = 128;

// Keys (side 0) and values (side 1) in the matrix units' order: [kv_heads, 2, kDim / 8, rows, 8]. kTileKeys zeros follow the
// last key, so that every tile is there.
struct PackedKeys {
  static constexpr int kTileKeys = 128;
  std::uint16_t* data;
  int keys, rows;  // rows: keys + kTileKeys

  template <int kDim>
  __device__ std::uint16_t* at(int kv_head, int side, int column, int key) const {
    return data + (static_cast<std::int64_t>((kv_head * 2 + side) * (kDim / 8) + column) * rows + key) * 8;
  }
};

// A tile in shared memory: columns of eight dimensions, in each 16 bytes a key. As pieces of 8 x 8 numbers, keys have the sum
// along the dimensions, values along the keys.
template <int kDim>
struct KeyTile {
  static constexpr int kKeys = PackedKeys::kTileKeys, kColumns = kDim / 8, kColumnBytes = kKeys * 16, kPieceBytes = 128;
  static constexpr int kBytes = kColumns * kColumnBytes;
};

// What the warps of a block share.
template <int kDim>
struct AttentionRing {
  static constexpr int kStages = kDim <= 96 ? 3 : 2;
  struct Side {  // keys or values
    SharedBarrier full[kStages], empty[kStages];
  };
  static constexpr int kBytes = 2 * kStages * KeyTile<kDim>::kBytes;

  Side* sides;  // of keys, of values
  char* tiles;

  __device__ char* tile(int side, int number) const {
    return tiles + (side * kStages + number % kStages) * KeyTile<kDim>::kBytes;
  }
  __device__ SharedBarrier& full(int side, int number) const { return sides[side].full[number % kStages]; }
  __device__ SharedBarrier& empty(int side, int number) const { return sides[side].empty[number % kStages]; }
  static __device__ int parity(int number) { return number / kStages % 2; }
};

// The warp that copies: tile after tile the keys, then the values, a lane a column.
template <int kDim>
__device__ __forceinline__ void copy_tiles(const AttentionRing<kDim>& ring, const PackedKeys& packed, int kv_head,
                                           int first_key, int tiles) {
  using Tile = KeyTile<kDim>;
  const int column = threadIdx.x % 32;
  for (int copy = 0; copy < 2 * tiles; ++copy) {
    const int side = copy % 2, number = copy / 2;
    SharedBarrier& full = ring.full(side, number);
    ring.empty(side, number).wait(AttentionRing<kDim>::parity(number) ^ 1);
    if (column == 0) full.arrive_and_expect(Tile::kBytes);
    __syncwarp();
    if (column < Tile::kColumns) {
      full.copy(ring.tile(side, number) + column * Tile::kColumnBytes,
                packed.at<kDim>(kv_head, side, column, first_key + number * Tile::kKeys), Tile::kColumnBytes);
    }
  }
}

// The 64 queries of a warpgroup as the matrix units take them from registers; zeros for what is not there. rows: of them.
template <int kDim>
__device__ __forceinline__ void load_queries(const std::uint16_t* q, std::int64_t stride, int rows, int head_dim,
                                             std::uint32_t (&queries)[kDim / 16][4]) {
  const int row = threadIdx.x % kWarpgroup / 32 * 16 + threadIdx.x % 32 / 4, part = threadIdx.x % 4 * 2;
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = row + i % 2 * 8, col = k * 16 + i / 2 * 8 + part;
      const bool there = r < rows && col < head_dim;
      queries[k][i] = there ? *reinterpret_cast<const std::uint32_t*>(q + r * stride + col) : 0u;
    }
  }
}

template <int kDim>
struct AttentionWarpgroup {
  using Tile = KeyTile<kDim>;
  using Ring = AttentionRing<kDim>;
  static constexpr int kScoreBlocks = Tile::kKeys / 8;

  const Ring& ring;
  int group;  // 0 or 1
  std::uint32_t queries[kDim / 16][4];
  std::uint32_t weights[Tile::kKeys / 16][4];
  float scores[kScoreBlocks][4];
  float out[kDim / 8][4] = {};
  OnlineSoftmax softmax;

  __device__ __forceinline__ AttentionWarpgroup(const Ring& shared, int number) : ring(shared), group(number) {}

  __device__ __forceinline__ void start_scores(int tile) {
    const std::uint64_t keys = describe_operand(ring.tile(0, tile), Tile::kColumnBytes, Tile::kPieceBytes);
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      multiply_warpgroup<false>(scores, queries[k], keys + k * (2 * Tile::kColumnBytes >> 4), k > 0);
    }
    end_products();
  }

  __device__ __forceinline__ void start_out(int tile) {
    const std::uint64_t values = describe_operand(ring.tile(1, tile), Tile::kPieceBytes, Tile::kColumnBytes);
#pragma unroll
    for (int k = 0; k < Tile::kKeys / 16; ++k) {
      multiply_warpgroup<true>(out, weights[k], values + k * (2 * Tile::kPieceBytes >> 4), true);
    }
    end_products();
  }

  __device__ __forceinline__ void pack_weights() {
#pragma unroll
    for (int b = 0; b < kScoreBlocks; ++b) {
      weights[b / 2][b % 2 * 2] = pack_bf16x2(scores[b][0], scores[b][1]);
      weights[b / 2][b % 2 * 2 + 1] = pack_bf16x2(scores[b][2], scores[b][3]);
    }
  }

  __device__ __forceinline__ void release(int side, int tile) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) ring.empty(side, tile).arrive();
  }

  // Turns at the matrix units: both warpgroups come here once a tile.
  __device__ __forceinline__ void wait_for_turn() const { wait_at(1 + group, 2 * kWarpgroup); }
  __device__ __forceinline__ void pass_turn() const { arrive_at(2 - group, 2 * kWarpgroup); }

  // step: the scale in powers of two; seen: keys of the lane's rows, least: of the warpgroup's first row
  __device__ __forceinline__ void run(int tiles, float step, const int (&seen)[2], int least) {
    float factors[2];
    if (group == 1) pass_turn();
    ring.full(0, 0).wait(0);
    wait_for_turn();
    begin_products();
    start_scores(0);
    pass_turn();
    wait_for_products<0>();
    settle(scores);
    weigh(0, step, seen, least, factors);
    pack_weights();
    for (int tile = 1; tile < tiles; ++tile) {
      ring.full(0, tile).wait(Ring::parity(tile));
      ring.full(1, tile - 1).wait(Ring::parity(tile - 1));
      wait_for_turn();
      begin_products();
      start_scores(tile);
      start_out(tile - 1);
      pass_turn();
      wait_for_products<1>();
      settle(scores);
      weigh(tile, step, seen, least, factors);
      wait_for_products<0>();
      settle(out);
      settle(weights);
      release(1, tile - 1);
      // mostly no score is larger than all before
      if (__any_sync(0xffffffffu, factors[0] != 1.0f || factors[1] != 1.0f)) scale_rows(out, factors);
      pack_weights();
    }
    if (group == 0) wait_for_turn();
    ring.full(1, tiles - 1).wait(Ring::parity(tiles - 1));
    begin_products();
    start_out(tiles - 1);
    wait_for_products<0>();
    settle(out);
    softmax.finish(factors);
    scale_rows(out, factors);
  }

  // Scores become weights; what multiplies earlier results comes back in `factors`.
  __device__ __forceinline__ void weigh(int tile, float step, const int (&seen)[2], int least, float (&factors)[2]) {
    release(0, tile);
    if ((tile + 1) * Tile::kKeys > least) hide_keys(scores, tile * Tile::kKeys, seen);
    softmax.exponentiate(scores, step, factors);
  }
};

template <int kDim, class Source>
__device__ __forceinline__ void attend_with_warpgroups(const typename Source::Arguments& args,
                                                       const PackedKeys& packed) {
  using Ring = AttentionRing<kDim>;
  __shared__ typename Ring::Side sides[2];
  const Ring ring{sides, launch_memory<char>()};
  const QueryRows& queries = args.queries;
  const int head = blockIdx.x, group = threadIdx.x / kWarpgroup, head_dim = queries.head_dim;
  if (threadIdx.x < 2 * Ring::kStages) {
    typename Ring::Side& side = sides[threadIdx.x / Ring::kStages];
    side.full[threadIdx.x % Ring::kStages].start(1);
    side.empty[threadIdx.x % Ring::kStages].start(2 * kWarpgroup / 32);
    publish_barriers();
  }
  __syncthreads();
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  Source source(args);
  Segment segment;
  if (!source.find(blockIdx.y, kAttentionQueries, segment)) return;
  const int tiles = (segment.keys + KeyTile<kDim>::kKeys - 1) / KeyTile<kDim>::kKeys;
  // together what three warpgroups have at the start, 168 registers each
  if (group == 2) {
    give_registers<24>();
    if (threadIdx.x / 32 == 2 * kWarpgroup / 32)
      copy_tiles<kDim>(ring, packed, source.kv_head(head), source.first_key(), tiles);
  } else {
    take_registers<240>();
    AttentionWarpgroup<kDim> state(ring, group);
    const int first = group * 64, row = first + threadIdx.x % kWarpgroup / 32 * 16 + threadIdx.x % 32 / 4;
    load_queries<kDim>(queries.q + (segment.first_row + first) * queries.q_stride + head * head_dim, queries.q_stride,
                       segment.rows - first, head_dim, state.queries);
    const int seen[2] = {min(segment.keys, segment.seen + row), min(segment.keys, segment.seen + row + 8)};
    const float step = queries.scale * 1.44269504f;  // log2 e
    state.run(tiles, step, seen, min(segment.keys, segment.seen + first));
    const bool there[2] = {row < segment.rows, row + 8 < segment.rows};
    store_rows(state.out, queries.out + (segment.first_row + row) * queries.out_stride + head * head_dim,
               queries.out_stride, head_dim, there);
  }
}

// A kernel without the instructions is one that takes too few threads.
template <int kDim, class Source>
__global__ void __launch_bounds__(kHasWarpgroups ? kAttentionThreads : 32, 1)
    attend_warpgroups(typename Source::Arguments args, PackedKeys packed) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  attend_with_warpgroups<kDim, Source>(args, packed);
#endif
}

// A block packs 128 rows of the keys or the values of one head, a thread a row; rows beyond the last key and dimensions
// beyond head_dim are zeros.
template <int kDim, class Source>
__global__ void __launch_bounds__(kWarpgroup) pack_keys(typename Source::Arguments args, PackedKeys packed) {
  const int kv_head = blockIdx.x, side = blockIdx.z, key = blockIdx.y * kWarpgroup + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (key >= packed.rows) return;
  const Source source(args);
  const auto* from =
      reinterpret_cast<const uint4*>(source.row(side == 1, key < packed.keys ? key : packed.keys - 1, kv_head));
  uint4 pieces[kDim / 8];
#pragma unroll
  for (int c = 0; c < kDim / 8; ++c) {
    const bool there = key < packed.keys && c * 8 < args.queries.head_dim;
    pieces[c] = there ? from[c] : make_uint4(0, 0, 0, 0);
  }
#pragma unroll
  for (int c = 0; c < kDim / 8; ++c) *reinterpret_cast<uint4*>(packed.at<kDim>(kv_head, side, c, key)) = pieces[c];
}

// keys: that queries see, of kv_heads heads.  workspace: packed_bytes()
template <int kDim, class Source>
void start_warpgroups(const typename Source::Arguments& arguments, int keys, int kv_heads, int query_tiles,
                      void* workspace, const Launch& launch) {
  constexpr std::size_t kBytes = AttentionRing<kDim>::kBytes;
  const PackedKeys packed{static_cast<std::uint16_t*>(workspace), keys, keys + PackedKeys::kTileKeys};
  const dim3 parts(static_cast<unsigned>(kv_heads), static_cast<unsigned>((packed.rows + kWarpgroup - 1) / kWarpgroup),
                   2);
  start_kernel(launch, "cuda attention", pack_keys<kDim, Source>, parts, dim3(kWarpgroup), 0, arguments, packed);
  const auto kernel = attend_warpgroups<kDim, Source>;
  allow_shared_memory(kernel, kBytes, "cuda attention");
  const dim3 blocks(static_cast<unsigned>(arguments.queries.heads), static_cast<unsigned>(query_tiles));
  start_kernel(launch, "cuda attention", kernel, blocks, dim3(kAttentionThreads), kBytes, arguments, packed);
}

}  // namespace halftone::cuda
