// The product for up to kDecodeTokens tokens with weights whose scales are those of small groups or of tiles, and with inputs
// that have scales by groups: what linear_decode.cu does, but for how scales are copied and where they multiply.

#include "backend/cuda/device/start_decode.cuh"
#include "formats/bf16.h"
#include "formats/nf4.h"

namespace halftone::cuda {
namespace {

// What Nf4Words takes as levels: the bf16 nearest to each, and the one nearest to what is left of it.
struct LevelWords {
  std::uint32_t words[Nf4Words::kLevels];
};
constexpr LevelWords split_levels() {
  LevelWords levels{};
  for (int code = 0; code < Nf4Words::kLevels; ++code) {
    const float level = nf4::kLevels[code];
    levels.words[code] = bf16::encode(level) | std::uint32_t{bf16::encode(level - bf16::round(level))} << 16;
  }
  return levels;
}

__device__ const LevelWords kLevelWords = split_levels();

// One chunk of one tile: the lanes' codes, then scales and zeros of the chunk's groups, [groups, 8 rows] each.
template <int kScales, int kZeros>
struct GroupSlot {
  uint4 codes[32];
  uint4 scales[kScales];
  uint4 zeros[kZeros > 0 ? kZeros : 1];
};

// A format of weight_chunks.cuh. The first lanes copy the scales, the lanes from kFirstZeroLane on the zeros.
template <typename Codes, Scaling kScaling>
struct GroupChunks {
  using Words = Codes;
  using Sum = float;
  using XElement = std::uint16_t;
  static constexpr bool kTiled = Words::kChunk == 128, kHasZeros = std::is_same_v<Words, Int4Words>, kShares = true;
  static constexpr bool kPacked = kTiled && kScaling != Scaling::kChunk;
  static constexpr int kMostScales = kScaling == Scaling::kChunk   ? 2
                                     : kScaling == Scaling::kParts ? 2 * Words::kPieces
                                                                   : 4;
  static constexpr int kMostZeros = kHasZeros ? Words::kPieces : 0;
  using Slot = GroupSlot<kMostScales, kMostZeros>;

  struct Tile {
    std::uint32_t codes;
    int at;
  };

  __device__ __forceinline__ static Tile tile(const LinearArguments& args, int at) {
    return {tile_codes<kTiled>(args, at), at};
  }

  __device__ __forceinline__ static void copy(const LinearArguments& args, const Tile& tile, int chunk, Slot& slot) {
    const int lane = threadIdx.x % 32, zero = lane - kFirstZeroLane, pieces = scale_pieces(args);
    copy_codes<Words, kTiled>(args, tile.codes, chunk, slot.codes);
    const int step = tile.at * (args.group_stride >> groups_shift(args)) +
                     (kScaling == Scaling::kChunk ? chunk * Words::kChunk >> args.group_shift : chunk);
    if (lane < pieces) {
      copy_async(&slot.scales[lane], piece_at(args.group_scales, static_cast<std::uint32_t>(step * pieces + lane)),
                 true);
    }
    if constexpr (kHasZeros) {
      if (zero >= 0 && zero < zero_pieces(args)) {
        copy_async(&slot.zeros[zero],
                   piece_at(args.group_zeros, static_cast<std::uint32_t>(step * groups(args) + zero)), true);
      }
    }
  }

  // What a lane needs to know of the scales and zeros that it reads.
  struct Reader {
    const LinearArguments& args;
    GroupScales scales{args};
    GroupZeros zeros{args};
    std::uint32_t level = 0;     // of Nf4Words
    int places[Words::kPieces];  // of the pieces' scales of one byte
    __device__ __forceinline__ Reader(const LinearArguments& arguments) : args(arguments) {
      if constexpr (std::is_same_v<Words, Nf4Words>) level = __ldg(&kLevelWords.words[threadIdx.x % Nf4Words::kLevels]);
#pragma unroll
      for (int p = 0; p < Words::kPieces; ++p) {
        places[p] = held(group_of(args, p, threadIdx.x % 4) * kTileRows + static_cast<int>(threadIdx.x % 32) / 4);
      }
    }
  };

  template <int kBlocks, class Pieces>
  __device__ __forceinline__ static void multiply(const Reader& reader, const Slot* slots, int chunk, Pieces x,
                                                  float (&total)[kBlocks][4]) {
    const int lane = threadIdx.x % 32;
    const uint4 low = slots[0].codes[lane], high = slots[1].codes[lane];
    std::uint32_t low_terms[Words::kPieces], high_terms[Words::kPieces];
    load_terms(reader, slots[0], low_terms);
    load_terms(reader, slots[1], high_terms);
    float sum[kBlocks][4];
    clear_sums(sum);
#pragma unroll
    for (int p = 0; p < Words::kPieces; ++p) {
      uint4 pieces[kBlocks];
      load_pieces(x, p, pieces);
      if constexpr (std::is_same_v<Words, Nf4Words>) {
        multiply_split_piece<Words>(low, high, p, low_terms[p], pieces, sum);
      } else if constexpr (kScaling == Scaling::kOperands) {
        multiply_piece<Words>(low, high, p, low_terms[p], high_terms[p], pieces, total);
      } else {
        multiply_piece<Words>(low, high, p, low_terms[p], high_terms[p], pieces, sum);
      }
      if constexpr (kScaling == Scaling::kParts) add_group(reader, slots, chunk, p, sum, total);
    }
    if constexpr (kScaling == Scaling::kChunk) add_group(reader, slots, chunk, 0, sum, total);
  }

  // Of a chunk of a tile, of 16 bytes.
  __device__ __forceinline__ static int scale_pieces(const LinearArguments& args) {
    const ScaleType type = args.group_scale_type;
    const int bytes = type == ScaleType::kF32 ? 4 : type == ScaleType::kBF16 || type == ScaleType::kF16 ? 2 : 1;
    return groups(args) * kTileRows * bytes / kPieceBytes;
  }
  __device__ __forceinline__ static int zero_pieces(const LinearArguments& args) {
    return kHasZeros && args.group_zeros ? groups(args) : 0;
  }

 private:
  static constexpr int kFirstZeroLane = 16;

  // The groups of a chunk are 2^i. With Scaling::kChunk several chunks may share a group.
  __device__ __forceinline__ static int groups_shift(const LinearArguments& args) {
    constexpr int kChunkShift = Words::kChunk == 128 ? 7 : 6;
    static_assert(1 << kChunkShift == Words::kChunk);
    return kScaling == Scaling::kChunk ? 0 : kChunkShift - args.group_shift;
  }
  __device__ __forceinline__ static int groups(const LinearArguments& args) { return 1 << groups_shift(args); }

  // Which group of a chunk is that of piece p of lanes whose row has part `part`.
  __device__ __forceinline__ static int group_of(const LinearArguments& args, int p, int part) {
    const int inputs = kScaling == Scaling::kOperands ? Words::offset(part, p) : p * 32;
    return kScaling == Scaling::kChunk ? 0 : inputs >> args.group_shift;
  }

  // Scales of one byte as bf16, which holds all of them: those in the lower bytes of the halves of a word.
  __device__ __forceinline__ static std::uint32_t byte_scales(const LinearArguments& args, std::uint32_t codes) {
    if (args.group_scale_type == ScaleType::kE4M3) return E4m3Words::pair(codes << 8);
    return __vmaxu2(codes << 7, 0x00400040u);
  }

  // Those of piece p of both tiles, for sums in units of what operands() gives.
  __device__ __forceinline__ static float2 scales(const Reader& reader, const Slot* slots, int p) {
    const LinearArguments& args = reader.args;
    constexpr bool kByteScales = kScaling == Scaling::kParts && !std::is_same_v<Words, Nf4Words>;
    const int group = group_of(args, p, 0);
    float2 scales;
    if (kByteScales && (args.group_scale_type == ScaleType::kE4M3 || args.group_scale_type == ScaleType::kE8M0)) {
      const int at = group * kTileRows + threadIdx.x % 32 / 4;
      const auto code = [&](int i) { return reinterpret_cast<const std::uint8_t*>(slots[i].scales)[at]; };
      const std::uint32_t both = byte_scales(args, code(0) | std::uint32_t{code(1)} << 16);
      scales = make_float2(__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000u));
    } else {
      scales = make_float2(reader.scales.read(slots[0].scales, group), reader.scales.read(slots[1].scales, group));
    }
    if constexpr (kHasZeros) scales.x /= Words::kUnit, scales.y /= Words::kUnit;
    return scales;
  }

  // What Words::operands() takes beside the codes of the pieces: their scale, twice, a zero, or levels.
  __device__ __forceinline__ static void load_terms(const Reader& reader, const Slot& slot,
                                                    std::uint32_t (&terms)[Words::kPieces]) {
    if constexpr (kScaling == Scaling::kOperands) {
      const auto code = [&](int p) -> std::uint32_t {
        return reinterpret_cast<const std::uint8_t*>(slot.scales)[reader.places[p]];
      };
#pragma unroll
      for (int p = 0; p < Words::kPieces; p += 2) {
        const std::uint32_t scales = byte_scales(reader.args, __byte_perm(code(p), code(p + 1), 0x3430));
        terms[p] = __byte_perm(scales, 0, 0x1010);
        terms[p + 1] = __byte_perm(scales, 0, 0x3232);
      }
    } else {
#pragma unroll
      for (int p = 0; p < Words::kPieces; ++p) {
        if constexpr (kHasZeros) {
          terms[p] = reader.zeros.read(slot.zeros, group_of(reader.args, p, 0));
        } else if constexpr (std::is_same_v<Words, Nf4Words>) {
          terms[p] = reader.level;
        } else {
          terms[p] = 0;
        }
      }
    }
  }

  // total += scale * sum, the scale that of the codes and, where its groups have some, that of x; sum = 0
  template <int kBlocks>
  __device__ __forceinline__ static void add_group(const Reader& reader, const Slot* slots, int chunk, int p,
                                                   float (&sum)[kBlocks][4], float (&total)[kBlocks][4]) {
    const LinearArguments& args = reader.args;
    const float2 rows = scales(reader, slots, p);
    const int part = threadIdx.x % 4;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      float tokens[2] = {1.0f, 1.0f};
      if (kScaling == Scaling::kChunk && args.x_group_scales) {
        const int group = chunk * Words::kChunk / kInputGroup;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int token = min(b * kTokenBlock + 2 * part + i, args.m - 1);
          tokens[i] = args.x_group_scales[token * args.x_groups + group];
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total[b][i] = fmaf((i < 2 ? rows.x : rows.y) * tokens[i % 2], sum[b][i], total[b][i]);
        sum[b][i] = 0;
      }
    }
  }
};

}  // namespace

void start_linear_decode_groups(const LinearArguments& arguments, int warps, const Launch& launch) {
  const bool chunks = arguments.scaling == Scaling::kChunk;
  switch (arguments.code_type) {
    case CodeType::kE2M1:
      return start_format<GroupChunks<E2m1Words, Scaling::kOperands>>(arguments, warps, launch);
    case CodeType::kInt4:
      return chunks ? start_format<GroupChunks<Int4Words, Scaling::kChunk>>(arguments, warps, launch)
                    : start_format<GroupChunks<Int4Words, Scaling::kParts>>(arguments, warps, launch);
    case CodeType::kNF4:
      return start_format<GroupChunks<Nf4Words, Scaling::kParts>>(arguments, warps, launch);
    case CodeType::kE4M3:
      return chunks ? start_format<GroupChunks<E4m3Words, Scaling::kChunk>>(arguments, warps, launch)
                    : start_format<GroupChunks<InHalves<E4m3Words>, Scaling::kParts>>(arguments, warps, launch);
    default:
      return chunks ? start_format<GroupChunks<Int8Words, Scaling::kChunk>>(arguments, warps, launch)
                    : start_format<GroupChunks<InHalves<Int8Words>, Scaling::kParts>>(arguments, warps, launch);
  }
}

}  // namespace halftone::cuda
