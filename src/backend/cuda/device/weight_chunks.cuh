#pragma once
// How a warp copies chunks of a weight to shared memory and multiplies them: what the kernels for few tokens and for some tens
// of them have in common.
//
// W goes by tiles of 8 rows, two of them, a pair, at a time, and a chunk of K. A lane copies 16 bytes of a row of each tile to
// a slot; the matrix units multiply them with eight rows of x. Which warp takes which chunks depends on the weight alone, and
// what is summed in one order: within a warp by chunks, ascending; then over four warps, (0 + 1) + (2 + 3); then over the
// fours, ascending.
//
// A format of weights is a struct with
//   Words      of code_words.cuh
//   Slot       of a chunk of a tile
//   Sum, XElement
//   Tile       where a tile's codes and scales lie for this lane, made by tile()
//   copy()     starts the copies of a chunk of a tile
//   multiply() adds a chunk's products to a pair's sums
//   kShares    whether lanes read what other lanes copied

#include <type_traits>

#include "backend/cuda/device/code_words.cuh"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear_result.cuh"

namespace halftone::cuda {

constexpr std::uint32_t kNoZero = 0x4308;  // bf16(136)
constexpr int kTiles = 2;                  // of a pair
constexpr int kPieceBytes = 16;
// Whether products are those of f16, of codes of x in one byte.
template <typename Words>
constexpr bool multiplies_f16 = std::is_same_v<Words, E4m3Halves>;

// The tiles `i` of pair `pair` of a product: neighbours, or a tile of the gates and its tile of the values.
__device__ __forceinline__ int tile_of(const LinearArguments& args, int pair, int i) {
  const int tiles = (args.n + kTileRows - 1) / kTileRows;
  return args.silu_mul ? pair + i * (tiles / 2) : min(pair * kTiles + i, tiles - 1);
}
__host__ __device__ __forceinline__ int pairs_of(const LinearArguments& args) {
  return (args.n + kTiles * kTileRows - 1) / (kTiles * kTileRows);
}
template <class Format>
__host__ __device__ __forceinline__ int chunks_of(const LinearArguments& args) {
  return (args.k + Format::Words::kChunk - 1) / Format::Words::kChunk;
}

// Where this lane's codes of a tile begin. Rows that are not there are read as the last one is.
template <bool kTiled>
__device__ __forceinline__ const char* tile_codes(const LinearArguments& args, int tile) {
  const int lane = threadIdx.x % 32;
  return kTiled ? args.codes + tile * args.row_bytes + lane * kPieceBytes
                : args.codes + min(tile * kTileRows + lane / 4, args.n - 1) * args.row_bytes + lane % 4 * kPieceBytes;
}

// Starts the copy of this lane's codes. What is copied is there: tiles are padded to whole chunks, rows to 16 bytes.
template <typename Words, bool kTiled>
__device__ __forceinline__ void copy_codes(const LinearArguments& args, const char* codes, int chunk, uint4* slot) {
  const int lane = threadIdx.x % 32;
  const bool there = kTiled || chunk * Words::kChunk + Words::offset(lane % 4, 0) < args.k;
  copy_async(slot + lane, there ? codes + static_cast<std::int64_t>(chunk) * Words::kStep : codes, there);
}

template <typename Sum, int kBlocks>
__device__ __forceinline__ void clear_sums(Sum (&total)[kBlocks][4]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) total[b][i] = 0;
  }
}

// What the lanes of a warp summed, lane 4 row + part, as [kTiles, tokens, 8 rows] from `sums` on.
template <typename Sum, int kBlocks>
__device__ __forceinline__ void store_sums(const Sum (&total)[kBlocks][4], Sum* sums) {
  constexpr int kTokens = kBlocks * kTokenBlock;
  const int row = threadIdx.x % 32 / 4, part = threadIdx.x % 4;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = b * kTokenBlock + 2 * part + i % 2;
      sums[(i / 2 * kTokens + token) * kTileRows + row] = total[b][i];
    }
  }
}

// The sum of what four warps have at `sums`, `stride` elements from one to the next.
template <typename Sum>
__device__ __forceinline__ Sum sum_of_four(const Sum* sums, int stride) {
  return (sums[0] + sums[stride]) + (sums[2 * stride] + sums[3 * stride]);
}

// sum[b] += what one piece of the codes of both tiles gives with a piece of each of kBlocks tokens' x.
template <typename Words, typename Sum, int kBlocks>
__device__ __forceinline__ void multiply_piece(const uint4& low, const uint4& high, int piece, std::uint32_t low_term,
                                               std::uint32_t high_term, const uint4 (&x)[kBlocks],
                                               Sum (&sum)[kBlocks][4]) {
  constexpr int kProducts = multiplies_f16<Words> ? 4 : 2;  // instructions a piece
#pragma unroll
  for (int j = 0; j < kProducts; ++j) {
    const uint2 upper = Words::operands(low, kProducts * piece + j, low_term);
    const uint2 lower = Words::operands(high, kProducts * piece + j, high_term);
    const std::uint32_t codes[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      if constexpr (std::is_same_v<Sum, std::int32_t>) {
        multiply_int8(sum[b], codes, word_of(x[b], 2 * j), word_of(x[b], 2 * j + 1));
      } else if constexpr (multiplies_f16<Words>) {
        const uint2 inputs = Words::operands(x[b], j, 0);
        multiply_f16(sum[b], codes, inputs.x, inputs.y);
      } else {
        multiply_bf16(sum[b], codes, word_of(x[b], 2 * j), word_of(x[b], 2 * j + 1));
      }
    }
  }
}

// The same of codes that are sums of two operands each.
template <typename Words, int kBlocks>
__device__ __forceinline__ void multiply_split_piece(const uint4& low, const uint4& high, int piece, std::uint32_t term,
                                                     const uint4 (&x)[kBlocks], float (&sum)[kBlocks][4]) {
  constexpr int kProducts = 2;
#pragma unroll
  for (int j = 0; j < kProducts; ++j) {
    const uint4 upper = Words::operands(low, kProducts * piece + j, term);
    const uint4 lower = Words::operands(high, kProducts * piece + j, term);
    const std::uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
    const std::uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      multiply_bf16(sum[b], second, word_of(x[b], 2 * j), word_of(x[b], 2 * j + 1));
      multiply_bf16(sum[b], first, word_of(x[b], 2 * j), word_of(x[b], 2 * j + 1));
    }
  }
}

// Piece `piece` of each block of tokens.  x(b, piece): this lane's 16 bytes of it.
template <int kBlocks, class Pieces>
__device__ __forceinline__ void load_pieces(Pieces x, int piece, uint4 (&pieces)[kBlocks]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) pieces[b] = x(b, piece);
}

// One chunk of one tile: the lanes' codes and, where a chunk is a group, its scales and zeros.
template <bool kGroups>
struct ChunkSlot {
  uint4 codes[32];
};
template <>
struct ChunkSlot<true> {
  uint4 codes[32];
  uint4 scales[2];  // eight f32, or eight of 16 bits in the first
  uint4 zeros;      // eight bf16
};

// Weights without scales of groups, and INT4 in groups of a chunk.
template <typename Codes, bool kGroups>
struct WeightChunks {
  using Words = Codes;
  using Slot = ChunkSlot<kGroups>;
  // INT8 products sum exactly in integers
  static constexpr bool kIntegers = std::is_same_v<Words, Int8Integers>, kTiled = std::is_same_v<Words, Int4Words>;
  static constexpr bool kShares = kGroups;
  using Sum = std::conditional_t<kIntegers, std::int32_t, float>;
  using XElement = std::conditional_t<kIntegers || multiplies_f16<Words>, std::uint8_t, std::uint16_t>;

  struct Tile {
    const char* codes;
    const uint4* group;  // the first piece of scales or zeros that this lane copies
  };

  __device__ __forceinline__ static Tile tile(const LinearArguments& args, int at) {
    Tile tile{tile_codes<kTiled>(args, at), nullptr};
    if constexpr (kGroups) {
      const int lane = threadIdx.x % 32;
      const auto* source = reinterpret_cast<const uint4*>(lane == kZeroLane ? args.group_zeros : args.group_scales);
      tile.group = source + static_cast<std::int64_t>(at) * chunks_of<WeightChunks>(args) * group_step(args) +
                   (lane == kZeroLane ? 0 : lane);
    }
    return tile;
  }

  __device__ __forceinline__ static void copy(const LinearArguments& args, const Tile& tile, int chunk, Slot& slot) {
    copy_codes<Words, kTiled>(args, tile.codes, chunk, slot.codes);
    if constexpr (kGroups) {
      const int step = group_step(args);
      auto* pieces = reinterpret_cast<uint4*>(&slot) + 32;  // of scales, then of zeros
      if (step > 0) copy_async(pieces + threadIdx.x % 32, tile.group + chunk * step, true);
    }
  }

  template <int kBlocks, class Pieces>
  __device__ __forceinline__ static void multiply(const LinearArguments& args, const Slot* slots, int, Pieces x,
                                                  Sum (&total)[kBlocks][4]) {
    if constexpr (kGroups) {
      Sum sum[kBlocks][4];
      clear_sums(sum);
      add_products(args, slots, x, sum);
      add_group(args, slots, sum, total);
    } else {
      add_products(args, slots, x, total);
    }
  }

 private:
  static constexpr int kZeroLane = 2;

  // Pieces from chunk to chunk of the scales, or zeros, of a tile; 0 for lanes that copy none.
  __device__ __forceinline__ static int group_step(const LinearArguments& args) {
    const int lane = threadIdx.x % 32, scales = args.group_scale_type == ScaleType::kF32 ? 2 : 1;
    return lane < scales ? scales : lane == kZeroLane && args.group_zeros ? 1 : 0;
  }

  template <int kBlocks, class Pieces>
  __device__ __forceinline__ static void add_products(const LinearArguments& args, const Slot* slots, Pieces x,
                                                      Sum (&sum)[kBlocks][4]) {
    const int lane = threadIdx.x % 32;
    const uint4 low = slots[0].codes[lane], high = slots[1].codes[lane];
    const std::uint32_t low_zero = minus_zero(args, slots[0]), high_zero = minus_zero(args, slots[1]);
#pragma unroll
    for (int p = 0; p < Words::kPieces; ++p) {
      uint4 pieces[kBlocks];
      load_pieces(x, p, pieces);
      multiply_piece<Words>(low, high, p, low_zero, high_zero, pieces, sum);
    }
  }

  // total += scale * sum
  template <int kBlocks>
  __device__ __forceinline__ static void add_group(const LinearArguments& args, const Slot* slots,
                                                   const Sum (&sum)[kBlocks][4], Sum (&total)[kBlocks][4]) {
    const float low = row_scale(args, slots[0]), high = row_scale(args, slots[1]);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) total[b][i] = fmaf(i < 2 ? low : high, sum[b][i], total[b][i]);
    }
  }

  // The scale of this lane's row.
  __device__ __forceinline__ static float row_scale(const LinearArguments& args, const Slot& slot) {
    const int row = threadIdx.x % 32 / 4;
    const auto* words = reinterpret_cast<const std::uint32_t*>(slot.scales);
    if (args.group_scale_type == ScaleType::kF32) return __uint_as_float(words[row]);
    const std::uint32_t code = words[row / 2] >> (row % 2 * 16);
    return args.group_scale_type == ScaleType::kBF16 ? __uint_as_float(code << 16)
                                                     : f16_value(static_cast<std::uint16_t>(code));
  }

  // -(136 + zero) of this lane's row, twice.
  __device__ __forceinline__ static std::uint32_t minus_zero(const LinearArguments& args, const Slot& slot) {
    std::uint32_t zero = kNoZero;
    if constexpr (kGroups) {
      if (args.group_zeros) zero = reinterpret_cast<const std::uint16_t*>(&slot.zeros)[threadIdx.x % 32 / 4];
    }
    return zero * 0x10001u | 0x80008000u;
  }
};

}  // namespace halftone::cuda
