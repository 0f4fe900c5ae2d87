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
  static constexpr int kMostScales = kScaling == Scaling::kChunk   ? 2
                                     : kScaling == Scaling::kParts ? 2 * Words::kPieces
                                                                   : 4;
  static constexpr int kMostZeros = kHasZeros ? Words::kPieces : 0;
  using Slot = GroupSlot<kMostScales, kMostZeros>;

  struct Tile {
    const char* codes;
    int at;
  };

  __device__ __forceinline__ static Tile tile(const LinearArguments& args, int at) {
    return {tile_codes<kTiled>(args, at), at};
  }

  __device__ __forceinline__ static void copy(const LinearArguments& args, const Tile& tile, int chunk, Slot& slot) {
    const int lane = threadIdx.x % 32, zero = lane - kFirstZeroLane, pieces = scale_pieces(args);
    copy_codes<Words, kTiled>(args, tile.codes, chunk, slot.codes);
    const std::int64_t step = static_cast<std::int64_t>(tile.at) * (args.group_stride / groups(args)) +
                              (kScaling == Scaling::kChunk ? chunk * Words::kChunk >> args.group_shift : chunk);
    if (lane < pieces) {
      copy_async(&slot.scales[lane], static_cast<const uint4*>(args.group_scales) + step * pieces + lane, true);
    }
    if constexpr (kHasZeros) {
      if (args.group_zeros && zero >= 0 && zero < groups(args)) {
        const auto* zeros = reinterpret_cast<const uint4*>(args.group_zeros) + step * groups(args);
        copy_async(&slot.zeros[zero], zeros + zero, true);
      }
    }
  }

  template <int kBlocks, class Pieces>
  __device__ __forceinline__ static void multiply(const LinearArguments& args, const Slot* slots, int chunk, Pieces x,
                                                  float (&total)[kBlocks][4]) {
    const int lane = threadIdx.x % 32;
    const uint4 low = slots[0].codes[lane], high = slots[1].codes[lane];
    float sum[kBlocks][4];
    clear_sums(sum);
#pragma unroll
    for (int p = 0; p < Words::kPieces; ++p) {
      uint4 pieces[kBlocks];
      load_pieces(x, p, pieces);
      const std::uint32_t low_term = term(args, slots[0], p), high_term = term(args, slots[1], p);
      if constexpr (std::is_same_v<Words, Nf4Words>) {
        multiply_split_piece<Words>(low, high, p, low_term, pieces, sum);
      } else if constexpr (kScaling == Scaling::kOperands) {
        multiply_piece<Words>(low, high, p, low_term, high_term, pieces, total);
      } else {
        multiply_piece<Words>(low, high, p, low_term, high_term, pieces, sum);
      }
      if constexpr (kScaling == Scaling::kParts) add_group(args, slots, chunk, p, sum, total);
    }
    if constexpr (kScaling == Scaling::kChunk) add_group(args, slots, chunk, 0, sum, total);
  }

 private:
  static constexpr int kFirstZeroLane = 16;

  // Of a chunk. With Scaling::kChunk several chunks may share a group.
  __device__ __forceinline__ static int groups(const LinearArguments& args) {
    return kScaling == Scaling::kChunk ? 1 : Words::kChunk >> args.group_shift;
  }
  // Pieces of 16 bytes.
  __device__ __forceinline__ static int scale_pieces(const LinearArguments& args) {
    const ScaleType type = args.group_scale_type;
    const int bytes = type == ScaleType::kF32 ? 4 : type == ScaleType::kBF16 || type == ScaleType::kF16 ? 2 : 1;
    return groups(args) * kTileRows * bytes / 16;
  }

  // Which of the scales, or zeros, of a chunk are those of piece p.
  __device__ __forceinline__ static int group_at(const LinearArguments& args, int p) {
    const int row = threadIdx.x % 32 / 4, part = threadIdx.x % 4;
    const int inputs = kScaling == Scaling::kOperands ? Words::offset(part, p) : p * 32;
    return (kScaling == Scaling::kChunk ? 0 : inputs >> args.group_shift) * kTileRows + row;
  }

  // A scale of one byte as bf16, which holds all of them.
  __device__ __forceinline__ static std::uint32_t byte_scale(const LinearArguments& args, const Slot& slot, int p) {
    const std::uint32_t code = reinterpret_cast<const std::uint8_t*>(slot.scales)[group_at(args, p)];
    if (args.group_scale_type == ScaleType::kE4M3) return E4m3Words::pair(code << 8) & 0xffffu;
    return code == 0 ? 0x0040u : code << 7;
  }

  __device__ __forceinline__ static float scale(const LinearArguments& args, const Slot& slot, int p) {
    const ScaleType type = args.group_scale_type;
    if (type == ScaleType::kF32) return reinterpret_cast<const float*>(slot.scales)[group_at(args, p)];
    if (type == ScaleType::kE4M3 || type == ScaleType::kE8M0) return __uint_as_float(byte_scale(args, slot, p) << 16);
    const std::uint16_t code = reinterpret_cast<const std::uint16_t*>(slot.scales)[group_at(args, p)];
    return type == ScaleType::kBF16 ? bf16_value(code) : f16_value(code);
  }

  // What Words::operands() takes beside the codes of piece p: their scale or -(136 + zero), twice, or levels.
  __device__ __forceinline__ static std::uint32_t term(const LinearArguments& args, const Slot& slot, int p) {
    if constexpr (kScaling == Scaling::kOperands) return byte_scale(args, slot, p) * 0x10001u;
    if constexpr (std::is_same_v<Words, Nf4Words>) return __ldg(&kLevelWords.words[threadIdx.x % Nf4Words::kLevels]);
    std::uint32_t zero = kNoZero;
    if constexpr (kHasZeros) {
      if (args.group_zeros) zero = reinterpret_cast<const std::uint16_t*>(slot.zeros)[group_at(args, p)];
    }
    return zero * 0x10001u | 0x80008000u;
  }

  // total += scale * sum, the scale that of the codes and, where its groups have some, that of x; sum = 0
  template <int kBlocks>
  __device__ __forceinline__ static void add_group(const LinearArguments& args, const Slot* slots, int chunk, int p,
                                                   float (&sum)[kBlocks][4], float (&total)[kBlocks][4]) {
    const float low = scale(args, slots[0], p), high = scale(args, slots[1], p);
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
        total[b][i] = fmaf((i < 2 ? low : high) * tokens[i % 2], sum[b][i], total[b][i]);
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
