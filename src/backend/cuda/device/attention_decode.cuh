#pragma once
// Attention of the newest token of each sequence: its q and k are rotated, its k and v go into the cache, and it attends.
//
// A block takes some tiles of kSplitKeys keys of one sequence and one key-value head, and all query heads that share it; a
// warp takes 16 keys of a tile. What the warps found is joined in shared memory, what the blocks found by the last one of a
// head to be done. Which keys a warp and a block take follows from the row's own length, and so does the order of every sum.
// The keys of earlier tokens are read before the kernels before this one have ended.
#include "backend/cuda/device/barrier.cuh"
#include "backend/cuda/device/cached_rows.cuh"
#include "backend/cuda/device/paged_kv.cuh"
#include "backend/cuda/device/reduce.cuh"

namespace halftone::cuda {

constexpr int kAttentionWarps = 8, kAttentionThreads = 32 * kAttentionWarps, kPages = kSplitKeys / kPageTokens;
constexpr int kAttentionBarrier = 1;  // of barrier.cuh
static_assert(kAttentionWarps * 16 == kSplitKeys, "a warp takes 16 keys");

// Which keys a block takes.
struct Split {
  int length, splits;   // keys of the row, and the blocks that share them
  int first_tile, end;  // tiles of kSplitKeys keys

  __device__ Split(int keys, int split) : length(keys) {
    const int tiles = (keys + kSplitKeys - 1) / kSplitKeys, each = (tiles + kMostSplits - 1) / kMostSplits;
    splits = (tiles + each - 1) / each;
    first_tile = split * each;
    end = min(first_tile + each, tiles);
  }
  __device__ bool has_newest_key() const { return end * kSplitKeys >= length; }
};

// A warp's results for eight heads. The matrix units take 16 rows: below the eight of weights in bf16 stand those of what their
// rounding left, so that the products are those of weights of 16 bits.
template <int kDim, class Cached = Bf16Cached<kDim>>
struct DecodeAttention {
  using Element = typename Cached::Element;
  typename Cached::Queries queries;
  typename Cached::Results out = {};
  float largest = minus_infinity(), sum = 0.0f;
  std::uint32_t nan = 0;  // codes of it that were seen

  __device__ __forceinline__ void load_queries(const std::uint16_t* shared) { Cached::load_queries(shared, queries); }

  // The scores of 16 keys, those from `count` on hidden: of keys 8 b + 2 t + i.
  __device__ __forceinline__ void score(const Element* keys, int count, float (&scores)[2][2]) {
    const int lane = threadIdx.x % 32;
    float products[2][4] = {};
    Cached::multiply_keys(keys, queries, products, nan);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool seen = i / 2 * 8 + lane % 4 * 2 + i % 2 < count;
      scores[i / 2][i % 2] = seen ? products[i / 2][i % 2] : minus_infinity();
    }
  }

  // count >= 1: of the 16 keys those that are seen.
  __device__ __forceinline__ void take(const Element* keys, const Element* values, int count, float step) {
    float weights[2][2];
    score(keys, count, weights);
    float now = fmaxf(fmaxf(weights[0][0], weights[0][1]), fmaxf(weights[1][0], weights[1][1]));
    now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
    now = fmaxf(fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2)), largest);
    const float factor = power_of_two((largest - now) * step), shift = -now * step;
    largest = now;
    sum *= factor;
    std::uint32_t pairs[4];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const float low = power_of_two(fmaf(weights[b][0], step, shift)),
                  high = power_of_two(fmaf(weights[b][1], step, shift));
      sum += low + high;
      pairs[2 * b] = pack_bf16x2(low, high);
      pairs[2 * b + 1] = pack_bf16x2(low - round_bf16(low), high - round_bf16(high));
    }
    scale_rows(out, {factor, factor});
    Cached::add_values(values, pairs, out, nan);
  }

  // values: [8, kDim], extremes: [8]
  __device__ __forceinline__ void store(float* values, float2* extremes) {
    const int head = threadIdx.x % 32 / 4, part = threadIdx.x % 4;
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (Cached::kScaled && __any_sync(0xffffffffu, nan != 0)) sum = __uint_as_float(0x7fc00000u);
    if (part == 0) extremes[head] = make_float2(largest, sum);
    Cached::store(out, values + head * kDim);
  }
};

// Four dimensions of one head, over parts of its keys.
struct Joined {
  float4 out = make_float4(0, 0, 0, 0);
  float largest = minus_infinity(), sum = 0.0f;

  // extremes(p), values(p): largest score and sum of part p, and its four dimensions, asked for kAtOnce ahead.
  template <int kAtOnce, class Extremes, class Values>
  __device__ __forceinline__ void join(int parts, float step, Extremes extremes, Values values) {
    for (int p = 0; p < parts; ++p) largest = Largest()(largest, extremes(p).x);
    for (int first = 0; first < parts; first += kAtOnce) {
      float4 v[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) v[i] = values(min(first + i, parts - 1));
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i < parts) add(extremes(first + i), v[i], step);
      }
    }
  }
  __device__ __forceinline__ void add(float2 extreme, const float4& v, float step) {
    const float factor = power_of_two((extreme.x - largest) * step);
    sum = fmaf(extreme.y, factor, sum);
    out = make_float4(fmaf(v.x, factor, out.x), fmaf(v.y, factor, out.y), fmaf(v.z, factor, out.z),
                      fmaf(v.w, factor, out.w));
  }
  __device__ __forceinline__ void scale(float factor) {
    out = make_float4(out.x * factor, out.y * factor, out.z * factor, out.w * factor);
  }
  __device__ __forceinline__ void store(std::uint16_t* target) const {
    *reinterpret_cast<uint2*>(target) =
        make_uint2(pack_bf16x2(out.x / sum, out.y / sum), pack_bf16x2(out.z / sum, out.w / sum));
  }
};

// Four pairs of a head, rotated as rope_append() does. x, target: the head's first element; j: the first pair.
__device__ __forceinline__ void rotate(const std::uint16_t* x, const float* cos, const float* sin, int j, int half,
                                       std::uint16_t* target) {
  const uint2 low = *reinterpret_cast<const uint2*>(x + j), high = *reinterpret_cast<const uint2*>(x + j + half);
  const float4 c = *reinterpret_cast<const float4*>(cos + j), s = *reinterpret_cast<const float4*>(sin + j);
  const auto value = [](const uint2& v, int i) {
    const std::uint32_t word = i / 2 ? v.y : v.x;
    return __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
  };
  float a[4], b[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float cosine = i == 0 ? c.x : i == 1 ? c.y : i == 2 ? c.z : c.w;
    const float sine = i == 0 ? s.x : i == 1 ? s.y : i == 2 ? s.z : s.w;
    a[i] = round_bf16(value(low, i) * cosine) - round_bf16(value(high, i) * sine);
    b[i] = round_bf16(value(high, i) * cosine) + round_bf16(value(low, i) * sine);
  }
  *reinterpret_cast<uint2*>(target + j) = make_uint2(pack_bf16x2(a[0], a[1]), pack_bf16x2(a[2], a[3]));
  *reinterpret_cast<uint2*>(target + j + half) = make_uint2(pack_bf16x2(b[0], b[1]), pack_bf16x2(b[2], b[3]));
}

// One block's work. stages: one or two of kSplitKeys rows of keys and as many of values.
template <int kDim, class Cached = Bf16Cached<kDim>>
struct DecodeBlock {
  using Rows = SharedRows<kDim>;  // of queries
  using Element = typename Cached::Element;
  static constexpr int kHalfStage = kSplitKeys * Cached::kStride;  // elements
  static constexpr std::size_t kStageBytes = 2 * kHalfStage * sizeof(Element);

  const AttentionDecodeArguments& args;
  const Split split;
  const int kv_head, row, sequence, head_dim;
  std::uint16_t* stages;
  int stage_count;

  __device__ Element* keys(int tile) const {
    return reinterpret_cast<Element*>(stages) + (tile - split.first_tile) % stage_count * (2 * kHalfStage);
  }
  __device__ Element* cached_keys() const { return reinterpret_cast<Element*>(args.kv.k); }
  __device__ Element* cached_values() const { return reinterpret_cast<Element*>(args.kv.v); }

  // Starts the copies of a tile's keys and values: all but the newest ones, which are zero for now.
  __device__ void copy_tile(int tile) const {
    for (int p = 0; p < kPages; ++p) {
      const int first = tile * kSplitKeys + p * kPageTokens, count = split.length - 1 - first;
      const std::int64_t from = key_offset(args.kv, sequence, kv_head, count > 0 ? first : 0);
      Element* target = keys(tile) + p * kPageTokens * Cached::kStride;
      Cached::template copy<kAttentionThreads>(target, cached_keys() + from, count, head_dim);
      Cached::template copy<kAttentionThreads>(target + kHalfStage, cached_values() + from, count, head_dim);
    }
    end_copy_group();
  }

  // The rotated queries, and in the block that has it the newest key with its value. new_key, new_value: [kDim] in shared
  // memory.
  __device__ void rotate_newest(int position, std::uint16_t* queries, std::uint16_t* new_key,
                                std::uint16_t* new_value) const {
    const int shared_heads = args.heads / args.kv.kv_heads, half = head_dim / 2, quads = half / 4;
    const std::uint16_t* qkv = args.qkv + row * args.qkv_stride;
    const float *cos = args.cos + static_cast<std::int64_t>(position) * half,
                *sin = args.sin + static_cast<std::int64_t>(position) * half;
    const int rotated = shared_heads + (split.has_newest_key() ? 1 : 0);
    for (int i = threadIdx.x; i < rotated * quads; i += kAttentionThreads) {
      const int h = i / quads, head = h < shared_heads ? kv_head * shared_heads + h : args.heads + kv_head;
      rotate(qkv + head * head_dim, cos, sin, i % quads * 4, half,
             h < shared_heads ? queries + h * Rows::kStride : new_key);
    }
    if (!split.has_newest_key()) return;
    const std::uint16_t* value = qkv + (args.heads + args.kv.kv_heads + kv_head) * head_dim;
    for (int j = threadIdx.x * 8; j < head_dim; j += kAttentionThreads * 8) {
      *reinterpret_cast<uint4*>(new_value + j) = *reinterpret_cast<const uint4*>(value + j);
    }
  }

  // The newest key and value go among the others, and into the cache.
  __device__ void append(int tile, const std::uint16_t* new_key, const std::uint16_t* new_value) const {
    const int slot = split.length - 1;
    Element* target = keys(tile) + slot % kSplitKeys * Cached::kStride;
    const std::int64_t cached = key_offset(args.kv, sequence, kv_head, slot);
    for (int j = threadIdx.x * 8; j < head_dim; j += kAttentionThreads * 8) {
      const uint4 k = *reinterpret_cast<const uint4*>(new_key + j), v = *reinterpret_cast<const uint4*>(new_value + j);
      Cached::append(k, Cached::scale(args.kv.k_scales, kv_head), target + j, cached_keys() + cached + j);
      Cached::append(v, Cached::scale(args.kv.v_scales, kv_head), target + kHalfStage + j,
                     cached_values() + cached + j);
    }
  }
};

// In shared memory, of one block's work.
template <int kDim>
struct AttentionScratch {
  __align__(16) std::uint16_t queries[kMaxSharedHeads * SharedRows<kDim>::kStride], newest[2][kDim];
  float2 extremes[kAttentionWarps][kMaxSharedHeads], part_extremes[kMaxSharedHeads][kMostSplits];
  bool is_last;
};

// Attention of one row, one key-value head and one part of its keys, by kAttentionThreads threads: those from 0 on.
template <int kDim, class Cached = Bf16Cached<kDim>>
struct NewestAttention {
  using Block = DecodeBlock<kDim, Cached>;
  using Rows = SharedRows<kDim>;

  const AttentionDecodeArguments& args;
  AttentionScratch<kDim>& scratch;
  const int row, kv_head, part;
  const Block block;
  const int position;
  const float step;

  __device__ NewestAttention(const AttentionDecodeArguments& arguments, AttentionScratch<kDim>& shared,
                             std::uint16_t* stages, int own_row, int own_head, int own_part)
      : args(arguments),
        scratch(shared),
        row(own_row),
        kv_head(own_head),
        part(own_part),
        block{arguments,
              Split(__ldcg(arguments.lengths + own_row), own_part),
              own_head,
              own_row,
              arguments.sequences ? __ldcg(arguments.sequences + own_row) : own_row,
              arguments.kv.head_dim,
              stages,
              arguments.stages},
        position(arguments.positions ? __ldcg(arguments.positions + own_row) : own_row),
        step(arguments.scale * 1.44269504f * Cached::scale(arguments.kv.k_scales, own_head)) {}  // log2 e

  __device__ bool works() const { return part < block.split.splits; }
  __device__ static void synchronize() { wait_at(kAttentionBarrier, kAttentionThreads); }

  // Before qkv is there: the keys and values of earlier tokens.
  __device__ void begin() const {
    block.copy_tile(block.split.first_tile);
    for (int i = threadIdx.x; i < kMaxSharedHeads * Rows::kStride; i += kAttentionThreads) scratch.queries[i] = 0;
    synchronize();
  }

  __device__ void run() const {
    const Split& split = block.split;
    block.rotate_newest(position, scratch.queries, scratch.newest[0], scratch.newest[1]);
    synchronize();
    DecodeAttention<kDim, Cached> state;
    state.load_queries(scratch.queries);
    const int warp = threadIdx.x / 32;
    for (int tile = split.first_tile; tile < split.end; ++tile) {
      wait_for_copy_groups<0>();
      synchronize();  // the tile is there for all, and nobody reads the other stage any more
      if (tile + 1 < split.end) block.copy_tile(tile + 1);
      if ((tile + 1) * kSplitKeys >= split.length) {
        block.append(tile, scratch.newest[0], scratch.newest[1]);
        synchronize();
      }
      const auto* keys = block.keys(tile) + warp * 16 * Cached::kStride;
      const int count = split.length - tile * kSplitKeys - warp * 16;
      if (count > 0) state.take(keys, keys + Block::kHalfStage, count, step);
    }
    join_warps(state);
    if (split.splits > 1 && is_last()) join_parts();
  }

 private:
  __device__ int shared_heads() const { return args.heads / args.kv.kv_heads; }
  __device__ int part_width() const { return args.kv.head_dim + kPartExtremes; }
  __device__ float* partial(int head) const {
    const std::int64_t first_head = static_cast<std::int64_t>(row) * args.heads + kv_head * shared_heads();
    return args.partial + (first_head + head) * kMostSplits * part_width();
  }
  __device__ std::uint16_t* out(int head) const {
    return args.out + row * args.out_stride + (kv_head * shared_heads() + head) * args.kv.head_dim;
  }

  __device__ void store(Joined& all, int head, int col) const {
    if constexpr (Cached::kScaled) all.scale(Cached::scale(args.kv.v_scales, kv_head));
    all.store(out(head) + col);
  }

  // The warps' results take the stages' place.
  __device__ void join_warps(DecodeAttention<kDim, Cached>& state) const {
    const int warp = threadIdx.x / 32, quads = args.kv.head_dim / 4;
    synchronize();
    auto* values = reinterpret_cast<float*>(block.stages);
    state.store(values + warp * kMaxSharedHeads * kDim, scratch.extremes[warp]);
    synchronize();
    for (int i = threadIdx.x; i < shared_heads() * quads; i += kAttentionThreads) {
      const int head = i / quads, col = i % quads * 4;
      Joined all;
      all.template join<kAttentionWarps>(
          kAttentionWarps, step, [&](int w) { return scratch.extremes[w][head]; },
          [&](int w) { return *reinterpret_cast<const float4*>(values + (w * kMaxSharedHeads + head) * kDim + col); });
      if (block.split.splits == 1) {
        store(all, head, col);
        continue;
      }
      float* target = partial(head) + part * part_width();
      *reinterpret_cast<float4*>(target + col) = all.out;
      if (col == 0) *reinterpret_cast<float2*>(target + args.kv.head_dim) = make_float2(all.largest, all.sum);
    }
  }

  // Whether this is the last part of these heads to come here; it finds what the others made, and leaves the counter as it
  // was.
  __device__ bool is_last() const {
    synchronize();
    if (threadIdx.x == 0) {
      std::uint32_t* done = args.done + row * args.kv.kv_heads + kv_head;
      // for all threads of the barriers before and after it
      scratch.is_last = count_ordered(done) + 1 == static_cast<std::uint32_t>(block.split.splits);
      if (scratch.is_last) *done = 0;
    }
    synchronize();
    return scratch.is_last;
  }

  __device__ void join_parts() const {
    const int quads = args.kv.head_dim / 4, parts = block.split.splits;
    for (int i = threadIdx.x; i < shared_heads() * kMostSplits; i += kAttentionThreads) {
      const int head = i / kMostSplits, p = i % kMostSplits;
      if (p >= parts) continue;
      const float* from = partial(head) + p * part_width();
      scratch.part_extremes[head][p] = __ldcg(reinterpret_cast<const float2*>(from + args.kv.head_dim));
    }
    synchronize();
    for (int i = threadIdx.x; i < shared_heads() * quads; i += kAttentionThreads) {
      const int head = i / quads, col = i % quads * 4;
      const float* from = partial(head);
      constexpr int kAtOnce = 12;
      Joined all;
      all.template join<kAtOnce>(
          parts, step, [&](int p) { return scratch.part_extremes[head][p]; },
          [&](int p) { return __ldcg(reinterpret_cast<const float4*>(from + p * part_width() + col)); });
      store(all, head, col);
    }
  }
};

}  // namespace halftone::cuda
