#pragma once
// Which keys of a sequence a block and a warp take when its newest token attends, and how they come to shared memory.

#include "backend/cuda/device/cached_rows.cuh"
#include "backend/cuda/device/paged_kv.cuh"

namespace halftone::cuda {

constexpr int kAttentionWarps = 4, kAttentionThreads = 32 * kAttentionWarps;
constexpr int kWarpKeys = kSplitKeys / kAttentionWarps, kWarpUnits = kWarpKeys / kUnitKeys;  // of a tile
constexpr int kMostStages = 2;                                                               // of a ring
static_assert(kWarpKeys <= kPageTokens && kPageTokens % kWarpKeys == 0, "a warp's keys of a tile lie in one page");

// Which keys a block takes.
struct Split {
  int length, parts;    // keys of the row, and the blocks that share them
  int first_tile, end;  // tiles of kSplitKeys keys

  __device__ Split(int keys, int part) : length(keys) {
    const int tiles = (keys + kSplitKeys - 1) / kSplitKeys, each = (tiles + kMostSplits - 1) / kMostSplits;
    parts = tiles > 0 ? (tiles + each - 1) / each : 0;  // none works where the sequence has ended
    first_tile = part * each;
    end = min(first_tile + each, tiles);
  }
  __device__ bool has_newest_key() const { return end * kSplitKeys >= length; }
};

// Floats from head to head of a warp's results: eight more send them to different banks.
template <int kDim>
constexpr int kResultStride = kDim + 8;

// A warp's keys and values on their way: a ring of units of kUnitKeys.
template <int kDim, class Cached>
struct KeyRing {
  using Element = typename Cached::Element;
  static constexpr int kHalf = kUnitKeys * Cached::kStride;  // elements of the keys; as many of the values follow
  static constexpr int kStageBytes = 2 * kHalf * static_cast<int>(sizeof(Element));
  static_assert(kStageBytes >= kMaxSharedHeads * kResultStride<kDim> * static_cast<int>(sizeof(float)),
                "a warp's results take a stage's place");

  const PagedKv& kv;
  const Split split;
  const int sequence, kv_head, stage_count, warp = threadIdx.x / 32;
  char* const stages;  // its own
  int units;           // that have a key

  __device__ KeyRing(const PagedKv& cache, const Split& own, int row_sequence, int head, int count, char* memory)
      : kv(cache),
        split(own),
        sequence(row_sequence),
        kv_head(head),
        stage_count(count),
        stages(memory + warp * count * kStageBytes) {
    const int last = split.length - (split.end - 1) * kSplitKeys - warp * kWarpKeys;  // keys of the last tile
    units =
        (split.end - 1 - split.first_tile) * kWarpUnits + min(max((last + kUnitKeys - 1) / kUnitKeys, 0), kWarpUnits);
  }

  __device__ int first_key(int unit) const {
    return (split.first_tile + unit / kWarpUnits) * kSplitKeys + warp * kWarpKeys + unit % kWarpUnits * kUnitKeys;
  }
  __device__ bool has_newest_key(int unit) const { return first_key(unit) + kUnitKeys >= split.length; }
  __device__ Element* keys(int unit) const {
    return reinterpret_cast<Element*>(stages + (stage_count == 1 ? 0 : unit % kMostStages) * kStageBytes);
  }
  __device__ Element* cached_keys() const { return reinterpret_cast<Element*>(kv.k); }
  __device__ Element* cached_values() const { return reinterpret_cast<Element*>(kv.v); }

  // Starts the copies of a unit, if there is one: of all but the newest key and value, which are zero for now.
  __device__ void copy(int unit) const {
    if (unit < units) {
      const int first = first_key(unit), count = split.length - 1 - first;
      const std::int64_t from = key_offset(kv, sequence, kv_head, first);
      Cached::copy(keys(unit), cached_keys() + from, count, kv.head_dim);
      Cached::copy(keys(unit) + kHalf, cached_values() + from, count, kv.head_dim);
    }
    end_copy_group();
  }
  // Until the oldest unit under way is there for the warp.
  __device__ void wait() const {
    if (stage_count == 1) {
      wait_for_copy_groups<0>();
    } else {
      wait_for_copy_groups<kMostStages - 1>();
    }
    __syncwarp();
  }

  // The newest key and value go among the others, and into the cache. newest: [2][kDim]
  __device__ void append(int unit, const std::uint16_t (&newest)[2][kDim], float key_scale, float value_scale) const {
    const int slot = split.length - 1, piece = threadIdx.x % 32 % 16, half = threadIdx.x % 32 / 16, j = piece * 8;
    if (j < kv.head_dim) {
      const std::int64_t cached = key_offset(kv, sequence, kv_head, slot);
      Cached::append(*reinterpret_cast<const uint4*>(newest[half] + j), half ? value_scale : key_scale,
                     keys(unit) + half * kHalf + slot % kUnitKeys * Cached::kStride + j,
                     (half ? cached_values() : cached_keys()) + cached + j);
    }
    __syncwarp();
  }
};

}  // namespace halftone::cuda
