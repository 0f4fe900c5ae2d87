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
//   Reader     what a lane knows of the scales and zeros that it reads, made of LinearArguments, once where that is cheaper
//   multiply() adds a chunk's products to a pair's sums
//   kShares    whether lanes read what other lanes copied
//   kPacked    whether its chunks are 4-bit codes, scales and zeros of their own, scale_pieces() and zero_pieces() of them, so
//              that a pair's can be copied at once

#include <type_traits>

#include "backend/cuda/device/code_words.cuh"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear_result.cuh"

namespace halftone::cuda {

constexpr int kTiles = 2;  // of a pair
constexpr int kPieceBytes = 16;
// x, of which the compiler knows no more: it does not compute x again in every turn of a loop.
__device__ __forceinline__ int held(int x) {
  asm("" : "+r"(x));
  return x;
}
__device__ __forceinline__ std::uint32_t held(std::uint32_t x) {
  asm("" : "+r"(x));
  return x;
}
template <typename T>
__device__ __forceinline__ const T* held(const T* x) {
  asm("" : "+l"(x));
  return x;
}

// Whether products are those of f16, of codes of x in one byte.
template <typename Words>
constexpr bool multiplies_f16 = std::is_same_v<Words, E4m3Halves>;

// The tiles `i` of pair `pair` of a product: neighbours, or a tile of the gates and its tile of the values.
__device__ __forceinline__ int tile_of(const LinearArguments& args, int pair, int i) {
  const int tiles = static_cast<int>((static_cast<std::uint32_t>(args.n) + kTileRows - 1) / kTileRows);
  return args.silu_mul ? pair + i * (tiles >> 1) : min(pair * kTiles + i, tiles - 1);
}
__host__ __device__ __forceinline__ int pairs_of(const LinearArguments& args) {
  return (args.n + kTiles * kTileRows - 1) / (kTiles * kTileRows);
}
template <class Format>
__host__ __device__ __forceinline__ int chunks_of(const LinearArguments& args) {
  return static_cast<int>((static_cast<std::uint32_t>(args.k) + Format::Words::kChunk - 1) / Format::Words::kChunk);
}

// Where this lane's codes of a tile begin, in pieces of the weight's codes: one register, where an address takes two. Rows that
// are not there are read as the last one is.
template <bool kTiled>
__device__ __forceinline__ std::uint32_t tile_codes(const LinearArguments& args, int tile) {
  const int lane = threadIdx.x % 32;
  const auto row_pieces = static_cast<std::uint32_t>(args.row_bytes / kPieceBytes);
  return kTiled ? tile * row_pieces + lane : min(tile * kTileRows + lane / 4, args.n - 1) * row_pieces + lane % 4;
}
__device__ __forceinline__ const uint4* piece_at(const void* first, std::uint32_t piece) {
  return static_cast<const uint4*>(first) + piece;
}

// Starts the copy of this lane's codes. What is copied is there: tiles are padded to whole chunks, rows to 16 bytes.
template <typename Words, bool kTiled>
__device__ __forceinline__ void copy_codes(const LinearArguments& args, std::uint32_t codes, int chunk, uint4* slot) {
  const int lane = threadIdx.x % 32;
  const bool there = kTiled || chunk * Words::kChunk + Words::offset(lane % 4, 0) < args.k;
  const std::uint32_t piece = there ? codes + chunk * (Words::kStep / kPieceBytes) : codes;
  copy_async(slot + lane, piece_at(args.codes, piece), there);
}

template <typename Sum, int kBlocks>
__device__ __forceinline__ void clear_sums(Sum (&total)[kBlocks][4]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) total[b][i] = 0;
  }
}

// By a power of two.
template <int kBlocks>
__device__ __forceinline__ void scale_sums(float (&total)[kBlocks][4], float factor) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) total[b][i] *= factor;
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

// The scales of this lane's row in memory, [groups, 8 rows] of f32, bf16 or f16. A word has one or two of them, of which a
// permutation of bytes makes an f32 or, for f16, the half to convert.
struct GroupScales {
  bool f32, f16;
  int word;
  std::uint32_t bytes;

  __device__ __forceinline__ explicit GroupScales(const LinearArguments& args)
      : f32(args.group_scale_type == ScaleType::kF32), f16(args.group_scale_type == ScaleType::kF16) {
    const int row = threadIdx.x % 32 / 4;
    word = held(f32 ? row : row / 2);
    bytes = held(
        static_cast<std::uint32_t>(f32 ? 0x3210 : (f16 ? 0x4410 : 0x1044) + (row % 2 ? (f16 ? 0x0022 : 0x2200) : 0)));
  }
  __device__ __forceinline__ float read(const void* scales, int group) const {
    const int at = word + group * (f32 ? kTileRows : kTileRows / 2);
    const std::uint32_t code = __byte_perm(static_cast<const std::uint32_t*>(scales)[at], 0, bytes);
    return f16 ? f16_value(static_cast<std::uint16_t>(code)) : __uint_as_float(code);
  }
};

// The zeros of INT4 codes of this lane's row as Int4Words takes them, from [groups, 8 rows] of bf16(136 + zero). Where there
// are none nothing of what is read is taken.
struct GroupZeros {
  std::uint32_t bytes, shift;

  __device__ __forceinline__ explicit GroupZeros(const LinearArguments& args)
      : bytes(held(args.group_zeros ? 0x1010u : 0x4444u)),
        shift(held(args.group_zeros ? Int4Words::kTwo : Int4Words::kNoZero)) {}
  __device__ __forceinline__ std::uint32_t read(const void* zeros, int group) const {
    const int row = threadIdx.x % 32 / 4;
    const std::uint32_t zero = static_cast<const std::uint16_t*>(zeros)[group * kTileRows + row];
    return Int4Words::minus_zero(__byte_perm(zero, 0, bytes), shift);
  }
};

// Of a format with groups, and of one without.
struct GroupReader {
  GroupScales scales;
  GroupZeros zeros;
  __device__ __forceinline__ GroupReader(const LinearArguments& args) : scales(args), zeros(args) {}
};
struct NoReader {
  __device__ __forceinline__ NoReader(const LinearArguments&) {}
};

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
  static constexpr bool kShares = kGroups, kPacked = kGroups;
  using Sum = std::conditional_t<kIntegers, std::int32_t, float>;
  using XElement = std::conditional_t<kIntegers || multiplies_f16<Words>, std::uint8_t, std::uint16_t>;

  struct Tile {
    std::uint32_t codes;
    std::uint32_t group;  // the first piece of scales or zeros that this lane copies
  };

  __device__ __forceinline__ static Tile tile(const LinearArguments& args, int at) {
    Tile tile{tile_codes<kTiled>(args, at), 0};
    if constexpr (kGroups) {
      const int lane = threadIdx.x % 32;
      tile.group = static_cast<std::uint32_t>(at) * chunks_of<WeightChunks>(args) * group_step(args) +
                   (lane == kZeroLane ? 0 : lane);
    }
    return tile;
  }

  __device__ __forceinline__ static void copy(const LinearArguments& args, const Tile& tile, int chunk, Slot& slot) {
    copy_codes<Words, kTiled>(args, tile.codes, chunk, slot.codes);
    if constexpr (kGroups) {
      const int step = group_step(args);
      auto* pieces = reinterpret_cast<uint4*>(&slot) + 32;  // of scales, then of zeros
      const void* source = threadIdx.x % 32 == kZeroLane ? args.group_zeros : args.group_scales;
      if (step > 0) copy_async(pieces + threadIdx.x % 32, piece_at(source, tile.group + chunk * step), true);
    }
  }

  // Of a chunk of a tile.
  __device__ __forceinline__ static int scale_pieces(const LinearArguments& args) {
    return args.group_scale_type == ScaleType::kF32 ? 2 : 1;
  }
  __device__ __forceinline__ static int zero_pieces(const LinearArguments& args) { return args.group_zeros ? 1 : 0; }

  using Reader = std::conditional_t<kGroups, GroupReader, NoReader>;

  template <int kBlocks, class Pieces>
  __device__ __forceinline__ static void multiply(const Reader& reader, const Slot* slots, int, Pieces x,
                                                  Sum (&total)[kBlocks][4]) {
    if constexpr (kGroups) {
      Sum sum[kBlocks][4];
      clear_sums(sum);
      add_products(reader, slots, x, sum);
      add_group(reader, slots, sum, total);
    } else {
      if constexpr (kTiled) scale_sums(total, Words::kUnit);
      add_products(reader, slots, x, total);
      if constexpr (kTiled) scale_sums(total, 1 / Words::kUnit);
    }
  }

 private:
  static constexpr int kZeroLane = 2;

  // Pieces from chunk to chunk of the scales, or zeros, of a tile; 0 for lanes that copy none.
  __device__ __forceinline__ static int group_step(const LinearArguments& args) {
    const int lane = threadIdx.x % 32;
    return lane < scale_pieces(args) ? scale_pieces(args) : lane == kZeroLane ? zero_pieces(args) : 0;
  }

  template <int kBlocks, class Pieces>
  __device__ __forceinline__ static void add_products(const Reader& reader, const Slot* slots, Pieces x,
                                                      Sum (&sum)[kBlocks][4]) {
    const int lane = threadIdx.x % 32;
    const uint4 low = slots[0].codes[lane], high = slots[1].codes[lane];
    const std::uint32_t low_zero = minus_zero(reader, slots[0]), high_zero = minus_zero(reader, slots[1]);
#pragma unroll
    for (int p = 0; p < Words::kPieces; ++p) {
      uint4 pieces[kBlocks];
      load_pieces(x, p, pieces);
      multiply_piece<Words>(low, high, p, low_zero, high_zero, pieces, sum);
    }
  }

  // total += scale * sum, which is in units of Words::kUnit
  template <int kBlocks>
  __device__ __forceinline__ static void add_group(const Reader& reader, const Slot* slots,
                                                   const Sum (&sum)[kBlocks][4], Sum (&total)[kBlocks][4]) {
    const float low = reader.scales.read(slots[0].scales, 0) / Words::kUnit,
                high = reader.scales.read(slots[1].scales, 0) / Words::kUnit;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) total[b][i] = fmaf(i < 2 ? low : high, sum[b][i], total[b][i]);
    }
  }

  // What Words::operands() takes as zero of this lane's row.
  __device__ __forceinline__ static std::uint32_t minus_zero(const Reader& reader, const Slot& slot) {
    if constexpr (kGroups) {
      return reader.zeros.read(&slot.zeros, 0);
    } else if constexpr (kTiled) {
      return Words::kNoZero;
    } else {
      return 0;
    }
  }
};

}  // namespace halftone::cuda
