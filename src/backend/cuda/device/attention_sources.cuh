#pragma once
// Where the queries and the keys of one block lie.

#include "backend/cuda/device/attention_tiles.h"
#include "backend/cuda/device/paged_kv.cuh"

namespace halftone::cuda {

// Consecutive queries and the keys that they see: query i of them the first min(keys, seen + i).
struct Segment {
  int first_row, rows;
  int keys;  // that the last query sees
  int seen;  // by the first query
};

class FrameSource {
 public:
  using Arguments = AttentionFramesArguments;

  __device__ explicit FrameSource(const Arguments& args) : args_(args) {}

  // The queries of block `tile` when each takes up to `height` of one frame; false where there are no more.
  __device__ bool find(int tile, int height, Segment& segment) {
    int begin = 0;
    for (int frame = 0; frame < args_.frames; ++frame) {
      const int end = args_.frame_ends[frame], tiles = (end - begin + height - 1) / height;
      if (tile < tiles) {
        begin_ = begin;
        segment = {begin + tile * height, min(height, end - begin - tile * height), end - begin, end - begin};
        return true;
      }
      tile -= tiles;
      begin = end;
    }
    return false;
  }
  // The first key (value) of a tile, and elements from one to the next.
  __device__ const std::uint16_t* k(int tile, int head) const { return args_.k + offset(tile, head); }
  __device__ const std::uint16_t* v(int tile, int head) const { return args_.v + offset(tile, head); }
  __device__ std::int64_t stride() const { return args_.kv_stride; }

  // Of the keys of all frames, one after another: the segment's first one; where one begins, and its value.
  __device__ int first_key() const { return begin_; }
  __device__ const std::uint16_t* row(bool value, int key, int kv_head) const {
    return (value ? args_.v : args_.k) + key * args_.kv_stride + kv_head * args_.queries.head_dim;
  }
  __device__ int kv_head(int head) const { return head; }

 private:
  __device__ std::int64_t offset(int tile, int head) const {
    return static_cast<std::int64_t>(begin_ + tile * kTileKeys) * args_.kv_stride + head * args_.queries.head_dim;
  }

  const Arguments& args_;
  int begin_ = 0;
};

class PromptSource {
 public:
  using Arguments = AttentionPromptArguments;

  __device__ explicit PromptSource(const Arguments& args) : args_(args) {}

  // The last queries come first: they have the most keys.
  __device__ bool find(int tile, int height, Segment& segment) const {
    const int first_row = (static_cast<int>(gridDim.y) - 1 - tile) * height;
    const int rows = min(height, args_.queries.rows - first_row);
    segment = {first_row, rows, args_.first + first_row + rows, args_.first + first_row + 1};
    return true;
  }
  __device__ const std::uint16_t* k(int tile, int head) const { return args_.kv.k + offset(tile, head); }
  __device__ const std::uint16_t* v(int tile, int head) const { return args_.kv.v + offset(tile, head); }
  __device__ std::int64_t stride() const { return args_.kv.head_dim; }

  __device__ int first_key() const { return 0; }
  __device__ const std::uint16_t* row(bool value, int key, int kv_head) const {
    return (value ? args_.kv.v : args_.kv.k) + key_offset(args_.kv, args_.sequence, kv_head, key);
  }
  __device__ int kv_head(int head) const { return head / (args_.queries.heads / args_.kv.kv_heads); }

 private:
  __device__ std::int64_t offset(int tile, int head) const {
    return key_offset(args_.kv, args_.sequence, kv_head(head), tile * kTileKeys);
  }

  const Arguments& args_;
};

}  // namespace halftone::cuda
