#pragma once
// Attention of the newest token of each sequence: its q and k are rotated, its k and v go into the cache, and it attends.
//
// A block takes some tiles of kSplitKeys keys of one sequence and one key-value head, and all query heads that share it; a
// warp takes 32 keys of a tile, 16 at a time, and waits for nobody until it has its results. These are joined in shared memory;
// what the blocks of a head found is joined by the last one to be done, or, where blocks are few, by a cluster's blocks, which
// takes less time but needs them all at once. Which keys a warp and a block take follows from the row's own length, and so
// does the order of every sum. The keys of earlier tokens are read before the kernels before this one have ended.
#include "backend/cuda/device/barrier.cuh"
#include "backend/cuda/device/joined.cuh"
#include "backend/cuda/device/key_ring.cuh"

namespace halftone::cuda {

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
    Cached::add_values(values, pairs, factor, out, nan);
  }

  // values: [8, kResultStride], extremes: [8]
  __device__ __forceinline__ void store(float* values, float2* extremes) {
    const int head = threadIdx.x % 32 / 4, part = threadIdx.x % 4;
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (Cached::kScaled && __any_sync(0xffffffffu, nan != 0)) sum = __uint_as_float(0x7fc00000u);
    if (part == 0) extremes[head] = make_float2(largest, sum);
    Cached::store(out, values + head * kResultStride<kDim>);
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

constexpr int kClusterParts = 16;  // blocks of a cluster at most

// In shared memory, of one block's work.
template <int kDim>
struct AttentionScratch {
  __align__(16) std::uint16_t queries[kMaxSharedHeads * SharedRows<kDim>::kStride], newest[2][kDim];
  float2 extremes[kAttentionWarps][kMaxSharedHeads];
  bool is_last;
};

// Behind the stages, in clusters alone: what the cluster's blocks send for the heads that this block finishes, by head and part.
template <int kDim>
struct ClusterResults {
  static constexpr int kRows = kClusterParts;
  static_assert(kClusterParts >= 2 * kMaxSharedHeads - 2,
                "each of r blocks has up to 8 / r heads, rounded up, of r parts");
  float values[kRows][kDim];
  float2 extremes[kRows];
  SharedBarrier sent;  // ends when all of that is there
};

// Attention of one row, one key-value head and one part of its keys.
template <int kDim, class Cached = Bf16Cached<kDim>>
struct NewestAttention {
  using Ring = KeyRing<kDim, Cached>;
  using Rows = SharedRows<kDim>;  // of queries

  const AttentionDecodeArguments& args;
  AttentionScratch<kDim>& scratch;
  char* const stages;
  const int row, kv_head, part, shared_heads;
  const bool clusters;
  const Split split;
  const Ring ring;
  const int position;
  const float key_scale, value_scale, step;

  // in_cluster: whether the blocks of a row and head are one. memory: the stages of all warps, and ClusterResults then.
  __device__ NewestAttention(const AttentionDecodeArguments& arguments, bool in_cluster, AttentionScratch<kDim>& shared,
                             char* memory, int own_row, int own_head, int own_part)
      : args(arguments),
        scratch(shared),
        stages(memory),
        row(own_row),
        kv_head(own_head),
        part(own_part),
        shared_heads(arguments.heads / arguments.kv.kv_heads),
        clusters(in_cluster),
        split(__ldcg(arguments.lengths + own_row), own_part),
        ring(arguments.kv, split, arguments.sequences ? __ldcg(arguments.sequences + own_row) : own_row, own_head,
             arguments.stages, memory),
        position(arguments.positions ? __ldcg(arguments.positions + own_row) : own_row),
        key_scale(Cached::scale(arguments.kv.k_scales, own_head)),
        value_scale(Cached::scale(arguments.kv.v_scales, own_head)),
        step(arguments.scale * 1.44269504f * key_scale) {}  // log2 e

  __device__ bool works() const { return part < split.parts; }
  // The sequence has ended: none of the row's blocks works.
  __device__ bool has_ended() const { return split.parts == 0; }

  // Before qkv is there: the keys and values of earlier tokens.
  __device__ void begin() const {
    if (clusters) expect_results();
    for (int unit = 0; unit < ring.stage_count; ++unit) ring.copy(unit);
    for (int i = threadIdx.x; i < kMaxSharedHeads * Rows::kStride / 2; i += kAttentionThreads) {
      reinterpret_cast<std::uint32_t*>(scratch.queries)[i] = 0;
    }
    __syncthreads();
  }

  __device__ void run() const {
    rotate_newest();
    __syncthreads();
    DecodeAttention<kDim, Cached> state;
    state.load_queries(scratch.queries);
    for (int unit = 0; unit < ring.units; ++unit) {
      ring.wait();
      if (ring.has_newest_key(unit)) ring.append(unit, scratch.newest, key_scale, value_scale);
      state.take(ring.keys(unit), ring.keys(unit) + Ring::kHalf, split.length - ring.first_key(unit), step);
      __syncwarp();
      ring.copy(unit + ring.stage_count);
    }
    state.store(results(threadIdx.x / 32, 0), scratch.extremes[threadIdx.x / 32]);
    __syncthreads();
    if (split.parts == 1) {
      join_warps([&](Joined& all, int head, int col) { store(all, head, col); });
    } else if (clusters) {
      join_in_cluster();
    } else {
      join_in_memory();
    }
  }

 private:
  __device__ int part_width() const { return args.kv.head_dim + kPartExtremes; }
  __device__ float* partial(int head) const {
    const std::int64_t first_head = static_cast<std::int64_t>(row) * args.heads + kv_head * shared_heads;
    return args.partial + (first_head + head) * kMostSplits * part_width();
  }
  __device__ std::uint16_t* out(int head) const {
    return args.out + row * args.out_stride + (kv_head * shared_heads + head) * args.kv.head_dim;
  }
  // A warp's results, in its own stages.
  __device__ float* results(int warp, int head) const {
    return reinterpret_cast<float*>(stages + warp * ring.stage_count * Ring::kStageBytes) + head * kResultStride<kDim>;
  }

  __device__ void store(Joined& all, int head, int col) const {
    if constexpr (Cached::kScaled) all.scale(value_scale);
    all.store(out(head) + col);
  }

  // The rotated queries, and in the block that has it the newest key with its value.
  __device__ void rotate_newest() const {
    constexpr int kQuads = kDim / 8;  // of a half
    const int dim = args.kv.head_dim, half = dim / 2, shared = shared_heads;
    const std::uint16_t* qkv = args.qkv + row * args.qkv_stride;
    const float *cos = args.cos + static_cast<std::int64_t>(position) * half,
                *sin = args.sin + static_cast<std::int64_t>(position) * half;
    const bool newest = split.has_newest_key();
    for (int i = threadIdx.x; i < (shared + newest) * kQuads; i += kAttentionThreads) {
      const int h = i / kQuads, j = i % kQuads * 4;
      if (j >= half) continue;
      rotate(qkv + (h < shared ? kv_head * shared + h : args.heads + kv_head) * dim, cos, sin, j, half,
             h < shared ? scratch.queries + h * Rows::kStride : scratch.newest[0]);
    }
    if (!newest) return;
    const std::uint16_t* value = qkv + (args.heads + args.kv.kv_heads + kv_head) * dim;
    for (int j = threadIdx.x * 8; j < dim; j += kAttentionThreads * 8) {
      *reinterpret_cast<uint4*>(scratch.newest[1] + j) = *reinterpret_cast<const uint4*>(value + j);
    }
  }

  // Joins what the block's warps found for each head, a warp's, and calls take(joined, head, col) for each four dimensions.
  template <class Take>
  __device__ void join_warps(const Take& take) const {
    const int col = threadIdx.x % 32 * 4, there = min(col, args.kv.head_dim - 4);
#pragma unroll 1
    for (int head = threadIdx.x / 32; head < shared_heads; head += kAttentionWarps) {
      Joined all;
      all.template join<kAttentionWarps>(
          kAttentionWarps, step, [&](int w) { return scratch.extremes[w][head]; },
          [&](int w) { return *reinterpret_cast<const float4*>(results(w, head) + there); });
      if (col < args.kv.head_dim) take(all, head, col);
    }
  }

  __device__ ClusterResults<kDim>& cluster_results() const {
    return *reinterpret_cast<ClusterResults<kDim>*>(stages + kAttentionWarps * ring.stage_count * Ring::kStageBytes);
  }

  // Of a cluster block `part` finishes the heads part, part + parts, ...
  __device__ void expect_results() const {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0 && split.parts > 1) {
      const int heads = (shared_heads - part + split.parts - 1) / split.parts;
      cluster_results().sent.start(1);
      publish_barriers();
      if (heads > 0) {
        cluster_results().sent.arrive_and_expect(heads * split.parts * (args.kv.head_dim + 2) *
                                                 static_cast<int>(sizeof(float)));
      }
    }
    __syncwarp();
    arrive_in_cluster();
#endif
  }

  __device__ void join_in_cluster() const {
#if __CUDA_ARCH__ >= 900
    ClusterResults<kDim>& own = cluster_results();
    const int ranks = split.parts;
    wait_in_cluster();  // the others expect results
    join_warps([&](const Joined& all, int head, int col) {
      const int rank = head % ranks, at = head / ranks * ranks + part;
      own.sent.send(rank, own.values[at] + col, all.out);
      if (col == 0) own.sent.send(rank, own.extremes + at, make_float2(all.largest, all.sum));
    });
    const int col = threadIdx.x % 32 * 4, there = min(col, args.kv.head_dim - 4);
    for (int head = part + ranks * (threadIdx.x / 32); head < shared_heads; head += ranks * kAttentionWarps) {
      const int first = head / ranks * ranks;
      own.sent.wait(0);
      Joined all;
      all.template join<4>(
          ranks, step, [&](int p) { return own.extremes[first + p]; },
          [&](int p) { return *reinterpret_cast<const float4*>(own.values[first + p] + there); });
      if (col < args.kv.head_dim) store(all, head, col);
    }
#endif
  }

  __device__ void join_in_memory() const {
    join_warps([&](const Joined& all, int head, int col) {
      float* target = partial(head) + part * part_width();
      *reinterpret_cast<float4*>(target + col) = all.out;
      if (col == 0) *reinterpret_cast<float2*>(target + args.kv.head_dim) = make_float2(all.largest, all.sum);
    });
    if (!is_last()) return;
    const int col = threadIdx.x % 32 * 4, there = min(col, args.kv.head_dim - 4);
    for (int head = threadIdx.x / 32; head < shared_heads; head += kAttentionWarps) {
      const float* from = partial(head);
      Joined all;
      all.template join<12>(
          split.parts, step,
          [&](int p) { return __ldcg(reinterpret_cast<const float2*>(from + p * part_width() + args.kv.head_dim)); },
          [&](int p) { return __ldcg(reinterpret_cast<const float4*>(from + p * part_width() + there)); });
      if (col < args.kv.head_dim) store(all, head, col);
    }
  }

  // Whether this is the last part of these heads to come here; it finds what the others made, and leaves the counter as it
  // was.
  __device__ bool is_last() const {
    __syncthreads();
    if (threadIdx.x == 0) {
      std::uint32_t* done = args.done + row * args.kv.kv_heads + kv_head;
      // for all threads of the barriers before and after it
      scratch.is_last = count_ordered(done) + 1 == static_cast<std::uint32_t>(split.parts);
      if (scratch.is_last) *done = 0;
    }
    __syncthreads();
    return scratch.is_last;
  }
};

}  // namespace halftone::cuda
