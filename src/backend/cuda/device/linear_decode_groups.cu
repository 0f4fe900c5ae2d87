// The product for few tokens with weights whose scales are those of small groups or of tiles, and with inputs that have
// scales by groups: what linear_decode.cu does, but for how scales are copied and where they multiply.

#include <algorithm>

#include "backend/cuda/device/linear_decode.cuh"
#include "backend/cuda/device/start_decode.cuh"

namespace halftone::cuda {
namespace {

constexpr int kStages = 4, kFirstZeroLane = 16;

// One chunk of one tile in the ring: the lanes' codes, then scales and zeros of the chunk's groups, [groups, 8 rows] each.
template <int kScales, int kZeros>
struct GroupSlot {
  uint4 codes[32];
  uint4 scales[kScales];
  uint4 zeros[kZeros > 0 ? kZeros : 1];
};

// Which scales a chunk of Words has. Pieces are 16 bytes.
template <typename Words, Scaling kScaling>
struct ChunkGroups {
  static constexpr bool kTiled = Words::kChunk == 128;
  static constexpr bool kHasZeros = std::is_same_v<Words, Int4Words>;
  static constexpr int kMostScales = kScaling == Scaling::kChunk   ? 2
                                     : kScaling == Scaling::kParts ? 2 * Words::kPieces
                                                                   : 4;
  static constexpr int kMostZeros = kHasZeros ? Words::kPieces : 0;
  using Slot = GroupSlot<kMostScales, kMostZeros>;

  const LinearArguments& args;

  __device__ __forceinline__ int groups() const {
    return kScaling == Scaling::kChunk ? 1 : Words::kChunk >> args.group_shift;
  }
  __device__ __forceinline__ int scale_pieces() const {
    const ScaleType type = args.group_scale_type;
    const int bytes = type == ScaleType::kF32 ? 4 : type == ScaleType::kBF16 || type == ScaleType::kF16 ? 2 : 1;
    return groups() * kTileRows * bytes / 16;
  }
  // Chunks, or with Scaling::kChunk groups, of a tile: each has its pieces after the other's; and which one is a chunk's.
  __device__ __forceinline__ int steps() const { return args.group_stride / groups(); }
  __device__ __forceinline__ int step_of(int chunk) const {
    return kScaling == Scaling::kChunk ? chunk * Words::kChunk >> args.group_shift : chunk;
  }
};

// ChunkCopies with those scales. The first lanes copy them, the lanes from kFirstZeroLane on the zeros.
template <typename Words, Scaling kScaling>
struct GroupCopies {
  using Groups = ChunkGroups<Words, kScaling>;
  using Slot = typename Groups::Slot;

  const LinearArguments& args;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const Groups groups{args};
  const int pairs = pairs_of(args), chunks = (args.k + Words::kChunk - 1) / Words::kChunk;
  // the next copy: a chunk of two tiles
  int pair = warp < chunks ? static_cast<int>(blockIdx.x) : pairs, chunk = warp;

  __device__ __forceinline__ void copy_next(Slot* slots) {
    if (pair >= pairs) return;
    const bool there = Groups::kTiled || chunk * Words::kChunk + Words::offset(lane % 4, 0) < args.k;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int tile = tile_of(args, pair, i);
      const char* codes =
          Groups::kTiled ? args.codes + tile * args.row_bytes + lane * 16
                         : args.codes + min(tile * kTileRows + lane / 4, args.n - 1) * args.row_bytes + lane % 4 * 16;
      copy_async(&slots[i].codes[lane], there ? codes + static_cast<std::int64_t>(chunk) * Words::kStep : codes, there);
      const std::int64_t step = static_cast<std::int64_t>(tile) * groups.steps() + groups.step_of(chunk);
      if (lane < groups.scale_pieces()) {
        const auto* scales = static_cast<const uint4*>(args.group_scales) + step * groups.scale_pieces();
        copy_async(&slots[i].scales[lane], scales + lane, true);
      }
      if constexpr (Groups::kHasZeros) {
        const int zero = lane - kFirstZeroLane;
        if (args.group_zeros && zero >= 0 && zero < groups.groups()) {
          const auto* zeros = reinterpret_cast<const uint4*>(args.group_zeros) + step * groups.groups();
          copy_async(&slots[i].zeros[zero], zeros + zero, true);
        }
      }
    }
    chunk += warps;
    if (chunk < chunks) return;
    chunk = warp;
    pair += static_cast<int>(gridDim.x);
  }
};

// ChunkProducts with those scales.
template <typename Words, Scaling kScaling, int kBlocks>
struct GroupProducts {
  using Groups = ChunkGroups<Words, kScaling>;
  using Slot = typename Groups::Slot;
  using Sum = float;
  using XElement = std::uint16_t;

  const LinearArguments& args;
  const int lane = threadIdx.x % 32, row = lane / 4, part = lane % 4;
  const char* x[kBlocks];  // this lane's tokens
  float total[kBlocks][4];

  // rows: [M] bf16, `stride` bytes from one to the next.
  __device__ __forceinline__ GroupProducts(const LinearArguments& arguments, const char* rows, std::int64_t stride)
      : args(arguments) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) x[b] = rows + min(b * kTokenBlock + row, args.m - 1) * stride;
  }

  // As ChunkProducts has it.
  template <class Take, class GiveBack>
  __device__ __forceinline__ void run(int warp, int warps, Take take, GiveBack give_back) {
    clear_sums(total);
    const int chunks = (args.k + Words::kChunk - 1) / Words::kChunk;
    for (int chunk = warp; chunk < chunks; chunk += warps) {
      multiply(chunk, take());
      give_back();
    }
  }

 private:
  __device__ __forceinline__ void multiply(int chunk, const Slot* slots) {
    float sum[kBlocks][4] = {};
#pragma unroll
    for (int p = 0; p < Words::kPieces; ++p) {
      const std::uint32_t low = term(slots[0], p), high = term(slots[1], p);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const int k = chunk * Words::kChunk + Words::offset(part, p);
        const char* address = x[b] + 2 * k;
        const uint4 input = k + kPiece <= args.k ? *reinterpret_cast<const uint4*>(address)
                                                 : load_last_piece<std::uint16_t>(address, args.k - k);
        multiply_piece(slots, p, input, low, high, kScaling == Scaling::kOperands ? total[b] : sum[b]);
      }
      if constexpr (kScaling == Scaling::kParts) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) add_group(slots, chunk, p, b, sum[b]);
      }
    }
    if constexpr (kScaling == Scaling::kChunk) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) add_group(slots, chunk, 0, b, sum[b]);
    }
  }

  // Which of the scales, or zeros, of a chunk are those of piece p.
  __device__ __forceinline__ int group_at(int p) const {
    const int inputs = kScaling == Scaling::kOperands ? Words::offset(part, p) : p * 32;
    return (kScaling == Scaling::kChunk ? 0 : inputs >> args.group_shift) * kTileRows + row;
  }

  // A scale of one byte as bf16, which holds all of them.
  __device__ __forceinline__ std::uint32_t byte_scale(const Slot& slot, int p) const {
    const std::uint32_t code = reinterpret_cast<const std::uint8_t*>(slot.scales)[group_at(p)];
    if (args.group_scale_type == ScaleType::kE4M3) return E4m3Words::pair(code << 8) & 0xffffu;
    return code == 0 ? 0x0040u : code << 7;
  }

  __device__ __forceinline__ float scale(const Slot& slot, int p) const {
    const ScaleType type = args.group_scale_type;
    if (type == ScaleType::kF32) return reinterpret_cast<const float*>(slot.scales)[group_at(p)];
    if (type == ScaleType::kE4M3 || type == ScaleType::kE8M0) return __uint_as_float(byte_scale(slot, p) << 16);
    const std::uint16_t code = reinterpret_cast<const std::uint16_t*>(slot.scales)[group_at(p)];
    return type == ScaleType::kBF16 ? bf16_value(code) : f16_value(code);
  }

  // What Words::operands() takes beside the codes of piece p: their scale or -(136 + zero), twice.
  __device__ __forceinline__ std::uint32_t term(const Slot& slot, int p) const {
    if constexpr (kScaling == Scaling::kOperands) return byte_scale(slot, p) * 0x10001u;
    std::uint32_t zero = kNoZero;
    if constexpr (Groups::kHasZeros) {
      if (args.group_zeros) zero = reinterpret_cast<const std::uint16_t*>(slot.zeros)[group_at(p)];
    }
    return zero * 0x10001u | 0x80008000u;
  }

  __device__ __forceinline__ void multiply_piece(const Slot* slots, int p, const uint4& input, std::uint32_t low_term,
                                                 std::uint32_t high_term, float (&sum)[4]) const {
    const uint4 low = slots[0].codes[lane], high = slots[1].codes[lane];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const uint2 upper = Words::operands(low, 2 * p + j, low_term),
                  lower = Words::operands(high, 2 * p + j, high_term);
      const std::uint32_t codes[4] = {upper.x, lower.x, upper.y, lower.y};
      multiply_bf16(sum, codes, word_of(input, 2 * j), word_of(input, 2 * j + 1));
    }
  }

  // total += scale * sum, the scale that of the codes and, where its groups have some, that of x; sum = 0
  __device__ __forceinline__ void add_group(const Slot* slots, int chunk, int p, int b, float (&sum)[4]) {
    const float low = scale(slots[0], p), high = scale(slots[1], p);
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
      total[b][i] = fmaf((i < 2 ? low : high) * tokens[i % 2], sum[i], total[b][i]);
      sum[i] = 0;
    }
  }
};

template <typename Words, Scaling kScaling, int kBlocks, bool kStaged>
__global__ void __launch_bounds__(kMaxThreads) linear_decode_groups(const LinearArguments args, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  using Ring = WarpRing<kStages, GroupCopies<Words, kScaling>>;
  Ring ring{launch_memory<typename Ring::Slot>() + threadIdx.x / 32 * Ring::kSlots, {args}};
  multiply_pairs<GroupProducts<Words, kScaling, kBlocks>, kBlocks, kStaged>(args, staged_stride, scratch, ring);
}

template <typename Words, Scaling kScaling, int kBlocks, bool kStaged>
void start_blocks(const LinearArguments& arguments, int warps, const Launch& launch) {
  constexpr std::size_t kRing = kStages * kTiles * sizeof(typename ChunkGroups<Words, kScaling>::Slot);
  constexpr std::size_t kSums = kTiles * kBlocks * kTokenBlock * kTileRows * sizeof(float);
  start_pairs<kRing, kSums, kStaged>(linear_decode_groups<Words, kScaling, kBlocks, kStaged>, arguments,
                                     arguments.k * 2, warps, launch);
}

// The rows of x and y from `first` on, `count` of them.
LinearArguments token_slice(LinearArguments arguments, int first, int count) {
  arguments.x += first * arguments.x_stride;
  arguments.y = static_cast<char*>(arguments.y) + first * arguments.y_stride * (arguments.y_f32 ? 4 : 2);
  if (arguments.residual) arguments.residual += first * arguments.residual_stride;
  if (arguments.x_scales) arguments.x_scales += first;
  if (arguments.x_group_scales) arguments.x_group_scales += first * static_cast<std::int64_t>(arguments.x_groups);
  arguments.m = count;
  return arguments;
}

// These formats are rarer, and their kernels are fewer: the weight is read once for each 16 tokens.
template <typename Words, Scaling kScaling>
void start(const LinearArguments& arguments, int warps, const Launch& launch) {
  constexpr int kSlice = 2 * kTokenBlock;
  if (arguments.m <= kTokenBlock && arguments.m * staged_stride(arguments.k * 2) <= kMostStagedBytes) {
    return start_blocks<Words, kScaling, 1, true>(arguments, warps, launch);
  }
  for (int first = 0; first < arguments.m; first += kSlice) {
    const int count = std::min(kSlice, arguments.m - first);
    start_blocks<Words, kScaling, 2, false>(token_slice(arguments, first, count), warps, launch);
  }
}

}  // namespace

void start_linear_decode_groups(const LinearArguments& arguments, int warps, const Launch& launch) {
  const bool chunks = arguments.scaling == Scaling::kChunk;
  switch (arguments.code_type) {
    case CodeType::kE2M1:
      return start<E2m1Words, Scaling::kOperands>(arguments, warps, launch);
    case CodeType::kInt4:
      return chunks ? start<Int4Words, Scaling::kChunk>(arguments, warps, launch)
                    : start<Int4Words, Scaling::kParts>(arguments, warps, launch);
    case CodeType::kE4M3:
      return chunks ? start<E4m3Words, Scaling::kChunk>(arguments, warps, launch)
                    : start<InHalves<E4m3Words>, Scaling::kParts>(arguments, warps, launch);
    default:
      return chunks ? start<Int8Words, Scaling::kChunk>(arguments, warps, launch)
                    : start<InHalves<Int8Words>, Scaling::kParts>(arguments, warps, launch);
  }
}

}  // namespace halftone::cuda
