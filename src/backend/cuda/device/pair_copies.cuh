#pragma once
// The teams of a block, and what their warps copy of their pairs of tiles, chunk after chunk, where a pair is copied at once.

#include <cstddef>

#include "backend/cuda/device/barrier.cuh"
#include "backend/cuda/device/weight_chunks.cuh"

namespace halftone::cuda {

// A pair's next chunk, copied as two tiles.
template <class Format>
struct TwoTiles {
  typename Format::Tile tiles[kTiles];
  int chunk;

  __device__ __forceinline__ explicit TwoTiles(const LinearArguments&) {}
  __device__ __forceinline__ void point_at(const LinearArguments& args, int low, int high, int first) {
    tiles[0] = Format::tile(args, low);
    tiles[1] = Format::tile(args, high);
    chunk = first;
  }
  // Starts the copies and goes on by `chunks`.
  __device__ __forceinline__ void copy(const LinearArguments& args, int chunks, typename Format::Slot* slots) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) Format::copy(args, tiles[i], chunk, slots[i]);
    chunk += chunks;
  }
};

// The same of 4-bit codes with scales: a lane copies its codes of both tiles, and a piece of the scales or zeros of one of
// them, which all lanes do at once. Places in memory are counted in pieces: 32 bits do, where pointers would take twice as many
// instructions.
template <class Format>
struct PackedPair {
  using Slot = typename Format::Slot;
  static constexpr int kLanes = 16, kZeroLane = 8;  // of each tile: lanes copy scales and, from kZeroLane on, zeros

  const uint4 *codes, *groups;
  int lane = held(static_cast<int>(threadIdx.x % 32));
  int place;  // in two slots
  int step;   // from chunk to chunk; 0: the lane copies neither scales nor zeros
  std::uint32_t next[kTiles], next_group;

  __device__ __forceinline__ explicit PackedPair(const LinearArguments& args) {
    const int scale = lane % kLanes, zero = scale - kZeroLane;
    const int scales = Format::scale_pieces(args), zeros = Format::zero_pieces(args);
    const bool is_scale = scale < scales, is_zero = zero >= 0 && zero < zeros;
    const std::size_t at =
        is_zero ? offsetof(Slot, zeros) / kPieceBytes + zero : offsetof(Slot, scales) / kPieceBytes + scale;
    step = held(is_zero ? zeros : is_scale ? scales : 0);
    codes = held(reinterpret_cast<const uint4*>(args.codes) + lane);
    groups = held(is_zero ? reinterpret_cast<const uint4*>(args.group_zeros) + zero
                          : static_cast<const uint4*>(args.group_scales) + scale);
    place = held(static_cast<int>(lane / kLanes * (sizeof(Slot) / kPieceBytes) + at));
  }
  __device__ __forceinline__ void point_at(const LinearArguments& args, int low, int high, int first) {
    const int chunks = chunks_of<Format>(args), tile = lane < kLanes ? low : high;
    next[0] = static_cast<std::uint32_t>(low * chunks + first) * 32u;
    next[1] = static_cast<std::uint32_t>(high * chunks + first) * 32u;
    next_group = static_cast<std::uint32_t>(tile * chunks + first) * static_cast<std::uint32_t>(step);
  }
  __device__ __forceinline__ void copy(const LinearArguments&, int chunks, Slot* slots) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      copy_async(slots[i].codes + lane, codes + next[i], true);
      next[i] += static_cast<std::uint32_t>(chunks) * 32u;
    }
    if (step > 0) copy_async(reinterpret_cast<uint4*>(slots) + place, groups + next_group, true);
    next_group += static_cast<std::uint32_t>(chunks * step);
  }
};

constexpr int kMostTeams = 4;  // of a block

// Of a thread: the warps that share the chunks of a pair with its own.
struct Team {
  const int warps, shift;  // of each team: 2^shift
  const int number, warp;  // of the block, of the team
  const int first_pair, step;

  __device__ __forceinline__ explicit Team(int team_shift)
      : warps(1 << team_shift),
        shift(team_shift),
        number(static_cast<int>(threadIdx.x / 32u) >> shift),
        warp(static_cast<int>(threadIdx.x / 32u) & (warps - 1)),
        first_pair(static_cast<int>(blockIdx.x) + number * static_cast<int>(gridDim.x)),
        step(static_cast<int>((blockDim.x / 32u) >> shift) * static_cast<int>(gridDim.x)) {}

  __device__ __forceinline__ int thread() const { return warp * 32 + static_cast<int>(threadIdx.x) % 32; }
  __device__ __forceinline__ void wait() const { wait_at_one_of<kMostTeams>(number, 32 * warps); }
};

// What a warp copies: of its team's pairs the chunks warp, warp + warps, ...
template <class Format>
struct PairCopies {
  using Slot = typename Format::Slot;
  using Source = std::conditional_t<Format::kPacked, PackedPair<Format>, TwoTiles<Format>>;

  const LinearArguments& args;
  const int warp, warps, step;
  const int pairs = pairs_of(args), chunks;
  // the next copy
  int pair, left;
  Source source{args};

  __device__ __forceinline__ PairCopies(const LinearArguments& arguments, const Team& team)
      : args(arguments),
        warp(team.warp),
        warps(team.warps),
        step(team.step),
        chunks((chunks_of<Format>(arguments) - warp + warps - 1) >> team.shift),
        pair(team.first_pair),
        left(pair < pairs ? chunks : 0) {
    if (left > 0) point_at();
  }

  // Starts the copies of the next chunk, if there is one.
  __device__ __forceinline__ void copy_next(Slot* slots) {
    if (left <= 0) return;
    source.copy(args, warps, slots);
    left = held(left - 1);
    if (left <= 0) next_pair();
  }

 private:
  __device__ __forceinline__ void next_pair() {
    pair += step;
    if (pair >= pairs) return;
    left = chunks;
    point_at();
  }
  __device__ __forceinline__ void point_at() {
    source.point_at(args, tile_of(args, pair, 0), tile_of(args, pair, 1), warp);
  }
};

}  // namespace halftone::cuda
