#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cpu/attention_tasks.h"
#include "backend/cpu/exp-inl.h"
#include "ops/backend.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
// Without vectors attention_cpu() calls the reference.
void transpose_keys(const float*, std::int64_t, std::int64_t, float*) {}
void run_task(const AttentionTask&) {}
bool runs_tasks() { return false; }
#else
bool runs_tasks() { return true; }

// Queries whose sums share registers, and groups of 16 keys, or of 16 columns of the values, beside each other.
constexpr int kTileQueries = 6;
#if HWY_TARGET == HWY_AVX3
constexpr int kTileGroups = 2, kValueGroups = 4;
#else
constexpr int kTileGroups = 1, kValueGroups = 1;
#endif
// Keys whose values stay in the first-level cache while all tiles of a task pass over them.
constexpr std::int64_t kValueBlock = 32;

// 16 keys of d elements side by side: out[j][i] = k[i][j]; keys from `count` on are zero.
void transpose_keys(const float* k, std::int64_t count, std::int64_t d, float* out) {
  std::int64_t done = 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if (count == kKeyBlock) {
    for (; done + 8 <= d; done += 8) {
      for (int half = 0; half < 2; ++half) {
        __m256 row[8], pair[8];
        for (int i = 0; i < 8; ++i) row[i] = _mm256_loadu_ps(k + (half * 8 + i) * d + done);
        for (int i = 0; i < 8; i += 2) {
          pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
          pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
          row[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
          row[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
          row[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
          row[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
        }
        for (int i = 0; i < 4; ++i) {
          float* target = out + (done + i) * kKeyBlock + half * 8;
          _mm256_storeu_ps(target, _mm256_permute2f128_ps(row[i], row[i + 4], 0x20));
          _mm256_storeu_ps(target + 4 * kKeyBlock, _mm256_permute2f128_ps(row[i], row[i + 4], 0x31));
        }
      }
    }
  }
#endif
  for (; done < d; ++done) {
    for (std::int64_t i = 0; i < kKeyBlock; ++i) out[done * kKeyBlock + i] = i < count ? k[i * d + done] : 0.0f;
  }
}

// scores[r][g][i] = scale * sum_j q[j][r] * keys[g][j][i] for R queries and G blocks of 16 keys.
template <int R, int G>
HWY_INLINE void multiply_keys(const float* q, const float* keys, std::int64_t d, float scale, float* scores,
                              std::int64_t stride) {
  Lanes<float> sum[R][G];
  for (int i = 0; i < R * G; ++i) sum[i / G][i % G] = set_lanes(0.0f);
  for (std::int64_t j = 0; j < d; ++j) {
    Lanes<float> operand[G];
    HWY_UNROLL(2)
    for (int g = 0; g < G; ++g) operand[g] = load_lanes(keys + (g * d + j) * kKeyBlock);
    HWY_UNROLL(6)
    for (int r = 0; r < R; ++r) {
      const auto value = set_lanes(q[j * R + r]);
      HWY_UNROLL(2)
      for (int g = 0; g < G; ++g) sum[r][g] = fma_lanes(value, operand[g], sum[r][g]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int g = 0; g < G; ++g) {
      for (int i = 0; i < kParts; ++i) sum[r][g].part[i] = hn::Mul(sum[r][g].part[i], hn::Set(F32(), scale));
      store_lanes(sum[r][g], scores + r * stride + g * kKeyBlock);
    }
  }
}

// out[r][g * 16 ..] += sum over `count` keys of p[r][s] * v[s][g * 16 ..], keys upwards.
template <int R, int G>
HWY_INLINE void add_values(const float* p, std::int64_t p_stride, const float* v, std::int64_t v_stride,
                           std::int64_t count, float* out, std::int64_t out_stride) {
  Lanes<float> sum[R][G];
  for (int r = 0; r < R; ++r) {
    for (int g = 0; g < G; ++g) sum[r][g] = load_lanes(out + r * out_stride + g * kLaneCount);
  }
  for (std::int64_t s = 0; s < count; ++s) {
    Lanes<float> operand[G];
    HWY_UNROLL(4)
    for (int g = 0; g < G; ++g) operand[g] = load_lanes(v + s * v_stride + g * kLaneCount);
    HWY_UNROLL(6)
    for (int r = 0; r < R; ++r) {
      const auto value = set_lanes(p[r * p_stride + s]);
      HWY_UNROLL(4)
      for (int g = 0; g < G; ++g) sum[r][g] = fma_lanes(value, operand[g], sum[r][g]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int g = 0; g < G; ++g) store_lanes(sum[r][g], out + r * out_stride + g * kLaneCount);
  }
}

// The scores of one query become probabilities, in place; p has room up to a multiple of 16.
template <Numerics numerics>
HWY_NOINLINE void softmax_row(float* p, std::int64_t count) {
  const F32 d;
  const std::int64_t padded = (count + kSumParts - 1) / kSumParts * kSumParts;
  std::fill(p + count, p + padded, -std::numeric_limits<float>::infinity());
  Lanes<float> most = set_lanes(-std::numeric_limits<float>::infinity());
  for (std::int64_t s = 0; s < padded; s += kSumParts) {
    for (int i = 0; i < kParts; ++i) most.part[i] = at_least(hn::LoadU(d, p + s + i * kPartLanes), most.part[i]);
  }
  float lanes[kSumParts];
  store_lanes(most, lanes);
  const auto shift = hn::Set(d, *std::max_element(lanes, lanes + kSumParts));
  Lanes<float> sum = set_lanes(0.0f);
  for (std::int64_t s = 0; s < padded; s += kSumParts) {
    for (int i = 0; i < kParts; ++i) {
      float* at = p + s + i * kPartLanes;
      const auto e = exp_below_highest(hn::Sub(hn::LoadU(d, at), shift));
      sum.part[i] = hn::Add(sum.part[i], e);
      hn::StoreU(e, d, at);
    }
  }
  store_lanes(sum, lanes);
  const auto total = hn::Set(d, sum_parts(lanes)), inverse = hn::Div(hn::Set(d, 1.0f), total);
  for (std::int64_t s = 0; s < padded; s += kPartLanes) {
    hn::StoreU(round_vector<numerics>(divide_by_sum(hn::LoadU(d, p + s), total, inverse)), d, p + s);
  }
}

// One task: some queries with one key-value head and one first key, cut into tiles.
class QueryBlock {
 public:
  QueryBlock(const AttentionTask& task) : task_(task), d_(task.d), groups_((task.d + kLaneCount - 1) / kLaneCount) {
    static thread_local std::vector<float> memory;
    tiles_ = (task.count + kTileQueries - 1) / kTileQueries;
    last_ = 0;
    for (std::int64_t r = 0; r < task.count; ++r) last_ = std::max(last_, task.end(r));
    first_block_ = task.begin / kKeyBlock;
    const std::int64_t blocks = (last_ + kKeyBlock - 1) / kKeyBlock - first_block_;
    // one block more than there are keys, because the first visible key need not begin a block
    stride_ = (blocks + kTileGroups + 1) * kKeyBlock;
    const std::int64_t q = task.count * d_, p = task.count * stride_, out = task.count * groups_ * kLaneCount;
    const std::int64_t keys = kTileGroups * kKeyBlock * d_, values = kValueBlock * groups_ * kLaneCount;
    memory.resize(static_cast<std::size_t>(q + p + out + keys + values));
    q_ = memory.data();
    p_ = q_ + q;
    out_ = p_ + p;
    keys_ = out_ + out;
    values_ = keys_ + keys;
  }

  void run() {
    pack_queries();
    compute_scores();
    for (std::int64_t r = 0; r < task_.count; ++r) {
      float* p = probabilities(r);
      if (task_.numerics == Numerics::kBF16) {
        softmax_row<Numerics::kBF16>(p, task_.end(r) - task_.begin);
      } else {
        softmax_row<Numerics::kF32>(p, task_.end(r) - task_.begin);
      }
    }
    std::fill(out_, out_ + task_.count * groups_ * kLaneCount, 0.0f);
    sum_values();
    for (std::int64_t r = 0; r < task_.count; ++r) {
      float* row = out_ + r * groups_ * kLaneCount;
      if (task_.numerics == Numerics::kBF16) {
        const F32 lanes;
        for (std::int64_t j = 0; j < d_; j += kPartLanes) {
          hn::StoreU(round_bf16_vector(hn::LoadU(lanes, row + j)), lanes, row + j);
        }
      }
      std::memcpy(task_.out(r), row, static_cast<std::size_t>(d_) * sizeof(float));
    }
  }

 private:
  // Key `begin` of query r; the keys before it in the same block lie in front.
  float* probabilities(std::int64_t r) const { return p_ + r * stride_ + task_.begin - first_block_ * kKeyBlock; }

  // [tile][d][queries of the tile]
  void pack_queries() {
    for (std::int64_t t = 0; t < tiles_; ++t) {
      const std::int64_t first = tile_begin(t), height = tile_begin(t + 1) - first;
      for (std::int64_t r = 0; r < height; ++r) {
        const float* source = task_.q(first + r);
        for (std::int64_t j = 0; j < d_; ++j) q_[first * d_ + j * height + r] = source[j];
      }
    }
  }

  // Tiles of nearly equal height.
  std::int64_t tile_begin(std::int64_t t) const { return task_.count * t / tiles_; }

  // Calls visit(R, first) for each tile, R a compile-time constant.
  template <class Visit>
  HWY_INLINE void for_tiles(const Visit& visit) const {
    for (std::int64_t t = 0; t < tiles_; ++t) {
      const std::int64_t first = tile_begin(t);
      switch (tile_begin(t + 1) - first) {
        case 6:
          visit(std::integral_constant<int, 6>(), first);
          break;
        case 5:
          visit(std::integral_constant<int, 5>(), first);
          break;
        case 4:
          visit(std::integral_constant<int, 4>(), first);
          break;
        case 3:
          visit(std::integral_constant<int, 3>(), first);
          break;
        case 2:
          visit(std::integral_constant<int, 2>(), first);
          break;
        default:
          visit(std::integral_constant<int, 1>(), first);
      }
    }
  }

  void compute_scores() {
    const std::int64_t end = (last_ + kKeyBlock - 1) / kKeyBlock;
    for (std::int64_t block = first_block_; block < end; block += kTileGroups) {
      const std::int64_t groups = std::min<std::int64_t>(kTileGroups, end - block);
      const float* keys = task_.transposed ? task_.transposed + block * kKeyBlock * d_ : transpose(block, groups);
      for_tiles([&](auto height, std::int64_t first) HWY_ATTR {
        constexpr int R = decltype(height)::value;
        float* scores = p_ + first * stride_ + (block - first_block_) * kKeyBlock;
        if (groups == kTileGroups) {
          multiply_keys<R, kTileGroups>(q_ + first * d_, keys, d_, task_.scale, scores, stride_);
        } else {
          multiply_keys<R, 1>(q_ + first * d_, keys, d_, task_.scale, scores, stride_);
        }
      });
    }
  }

  const float* transpose(std::int64_t block, std::int64_t groups) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t key = (block + g) * kKeyBlock;
      transpose_keys(task_.k + key * d_, std::min(kKeyBlock, last_ - key), d_, keys_ + g * kKeyBlock * d_);
    }
    return keys_;
  }

  void sum_values() {
    for (std::int64_t s = task_.begin; s < last_; s += kValueBlock) {
      const std::int64_t end = std::min(last_, s + kValueBlock);
      const std::int64_t whole = d_ / kLaneCount * kLaneCount;
      if (whole < d_) copy_last_columns(s, end, whole);
      for_tiles([&](auto height, std::int64_t first) HWY_ATTR { sum_tile(height, first, s, end, whole); });
    }
  }

  // Columns [whole, d) of the values, padded to 16, so that vectors need not read past a row.
  void copy_last_columns(std::int64_t s, std::int64_t end, std::int64_t whole) {
    std::fill(values_, values_ + kValueBlock * kLaneCount, 0.0f);
    for (std::int64_t i = s; i < end; ++i) {
      std::memcpy(values_ + (i - s) * kLaneCount, task_.v + i * d_ + whole,
                  static_cast<std::size_t>(d_ - whole) * sizeof(float));
    }
  }

  // Keys that all queries of the tile see go together, the rest of a query on its own: hidden keys add nothing, not
  // even zero times a NaN.
  template <class Height>
  HWY_INLINE void sum_tile(Height, std::int64_t first, std::int64_t s, std::int64_t end, std::int64_t whole) {
    constexpr int R = Height::value;
    std::int64_t common = end;
    for (std::int64_t r = 0; r < R; ++r) common = std::min(common, task_.end(first + r));
    common = std::max(common, s);
    if (common > s) sum_columns<R>(first, s, s, common, whole);
    for (std::int64_t r = first; r < first + R; ++r) {
      const std::int64_t own = std::min(end, task_.end(r));
      if (own > common) sum_columns<1>(r, s, common, own, whole);
    }
  }

  template <int R>
  HWY_INLINE void sum_columns(std::int64_t first, std::int64_t block, std::int64_t begin, std::int64_t end,
                              std::int64_t whole) {
    const float* p = probabilities(first) + begin - task_.begin;
    const float* v = task_.v + begin * d_;
    const std::int64_t out_stride = groups_ * kLaneCount;
    float* out = out_ + first * out_stride;
    std::int64_t column = 0;
    const auto add = [&](auto groups) HWY_ATTR {
      constexpr int G = decltype(groups)::value;
      add_values<R, G>(p, stride_, v + column, d_, end - begin, out + column, out_stride);
      column += G * kLaneCount;
    };
    while (column < whole) {
      const std::int64_t left = (whole - column) / kLaneCount;
      if constexpr (kValueGroups == 1) {
        add(std::integral_constant<int, 1>());
      } else if (left == 3 || left == 5) {
        // 5 as 3 and 2: one group alone has too few sums to hide the latency of its chains
        add(std::integral_constant<int, 3>());
      } else if (left >= 4) {
        add(std::integral_constant<int, 4>());
      } else if (left == 2) {
        add(std::integral_constant<int, 2>());
      } else {
        add(std::integral_constant<int, 1>());
      }
    }
    if (whole < d_) {
      add_values<R, 1>(p, stride_, values_ + (begin - block) * kLaneCount, kLaneCount, end - begin, out + whole,
                       out_stride);
    }
  }

  const AttentionTask& task_;
  std::int64_t d_, groups_;
  std::int64_t tiles_, last_, first_block_, stride_;
  float *q_, *p_, *out_, *keys_, *values_;
};

void run_task(const AttentionTask& task) { QueryBlock(task).run(); }
#endif

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {
namespace {

HWY_EXPORT(runs_tasks);
HWY_EXPORT(run_task);
HWY_EXPORT(transpose_keys);

// Queries in one task: enough to reuse each block of keys from the cache, few enough that their scores stay there, too.
constexpr std::int64_t kTaskQueries = 24;

struct TokenSpan {
  std::int64_t begin, end;
};

std::vector<TokenSpan> cut_tokens(std::span<const AttentionRange> ranges, std::int64_t share) {
  const std::int64_t most = std::max<std::int64_t>(1, kTaskQueries / share);
  std::vector<TokenSpan> spans;
  for (std::int64_t t = 0; t < static_cast<std::int64_t>(ranges.size()); ++t) {
    const auto i = static_cast<std::size_t>(t);
    if (spans.empty() || t - spans.back().begin == most || ranges[i].begin != ranges[i - 1].begin) {
      spans.push_back({t, t});
    }
    spans.back().end = t + 1;
  }
  return spans;
}

// [kv_heads][blocks][d][16]
Tensor transpose_all(const AttentionKv& kv, std::int64_t length, std::int64_t d, Stream& stream) {
  const std::int64_t blocks = (length + kKeyBlock - 1) / kKeyBlock;
  Tensor out(DType::kF32, {static_cast<std::int64_t>(kv.k.size()), blocks, d, kKeyBlock});
  float* target = out.data<float>();
  for_ranges(stream, blocks * out.dim(0), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t key = i % blocks * kKeyBlock;
      HWY_DYNAMIC_DISPATCH(transpose_keys)
      (kv.k[static_cast<std::size_t>(i / blocks)] + key * d, std::min(kKeyBlock, length - key), d,
       target + i * kKeyBlock * d);
    }
  });
  return out;
}

}  // namespace

void attention_cpu(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
                   Numerics numerics, Tensor& out, Stream& stream) {
  if (!HWY_DYNAMIC_DISPATCH(runs_tasks)()) return attention_reference(q, kv, ranges, scale, numerics, out);
  const auto kv_heads = static_cast<std::int64_t>(kv.k.size());
  const std::int64_t heads = q.dim(1), d = q.dim(2), share = heads / kv_heads;
  const std::vector<TokenSpan> spans = cut_tokens(ranges, share);
  std::int64_t length = 0;
  for (const AttentionRange& range : ranges) length = std::max(length, range.end);
  Tensor transposed;
  if (spans.size() > 1) transposed = transpose_all(kv, length, d, stream);
  const auto count = static_cast<std::int64_t>(spans.size());
  stream.pool->parallel_for(count * kv_heads, [&](std::int64_t i) {
    const TokenSpan span = spans[static_cast<std::size_t>(i % count)];
    const std::int64_t kv_head = i / count, first = (span.begin * heads + kv_head * share) * d;
    AttentionTask task;
    task.first_q = q.data<float>() + first;
    task.first_out = out.data<float>() + first;
    task.token_stride = heads * d;
    task.share = share;
    task.count = (span.end - span.begin) * share;
    task.d = d;
    task.ranges = ranges.data() + span.begin;
    task.begin = task.ranges[0].begin;
    task.k = kv.k[static_cast<std::size_t>(kv_head)];
    task.v = kv.v[static_cast<std::size_t>(kv_head)];
    if (transposed.defined()) task.transposed = transposed.data<float>() + kv_head * transposed.dim(1) * d * kKeyBlock;
    task.scale = scale;
    task.numerics = numerics;
    HWY_DYNAMIC_DISPATCH(run_task)(task);
  });
}

}  // namespace halftone
#endif
