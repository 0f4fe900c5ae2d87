// The product for few tokens, which takes as long as reading the weight: M <= kDecodeTokens.
//
// A block owns two tiles of 8 rows of W and all of K. Its warps take chunks of K in turn: warp w the chunks w, w + warps, ...
// A lane copies 16 bytes of a row at a time to a ring of its own in shared memory, kStages ahead of their use, so that much
// of the weight is under way whatever the registers hold. The matrix units multiply them with kBlocks times eight rows of
// x; what they make of rows that are not there is left out. So the order of summation does not depend on M at all: within a
// warp by chunks, ascending; then over the warps, ascending.

#include <type_traits>

#include "backend/cuda/device/code_words.cuh"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr std::uint32_t kNoZero = 0x4308;  // bf16(136)
constexpr int kMaxThreads = 512, kTiles = 2, kStages = 6;

// One chunk of one tile in the ring: the lanes' codes and, where a chunk is a group, its scales and zeros.
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

// The scale of one row of a tile.
__device__ __forceinline__ float row_scale(const uint4* scales, ScaleType type, int row) {
  if (type == ScaleType::kF32) return reinterpret_cast<const float*>(scales)[row];
  const std::uint16_t code = reinterpret_cast<const std::uint16_t*>(scales)[row];
  return type == ScaleType::kBF16 ? bf16_value(code) : f16_value(code);
}

// 16 bytes of a row of x, zero from `valid` elements on. Rows begin at multiples of 16 bytes: what lies behind the last
// element up to such a multiple is padding that may be read.
template <typename Element>
__device__ __forceinline__ uint4 load_last_piece(const char* address, int valid) {
  constexpr int kInWord = 4 / sizeof(Element);
  if (valid <= 0) return make_uint4(0, 0, 0, 0);
  const uint4 v = *reinterpret_cast<const uint4*>(address);
  const auto keep = [&](int word) {
    const int count = valid - word * kInWord;
    return count >= kInWord ? 0xffffffffu
           : count <= 0     ? 0u
                            : (1u << (count * 8 * static_cast<int>(sizeof(Element)))) - 1;
  };
  return make_uint4(v.x & keep(0), v.y & keep(1), v.z & keep(2), v.w & keep(3));
}

// kBlocks: of eight tokens.
template <typename Words, bool kGroups, int kBlocks>
struct DecodeWarp {
  // INT8 products sum exactly in integers
  static constexpr bool kIntegers = std::is_same_v<Words, Int8Integers>;
  static constexpr bool kTiled = std::is_same_v<Words, Int4Words>;
  using Sum = std::conditional_t<kIntegers, std::int32_t, float>;
  using XElement = std::conditional_t<kIntegers, std::uint8_t, std::uint16_t>;
  using Slot = ChunkSlot<kGroups>;

  const LinearArguments& args;
  Slot* ring;     // [kStages, kTiles]
  int row, part;  // of this lane: row / 4 and its rest
  int chunks;     // of K
  const char* base[kTiles];
  int tile[kTiles];
  const char* x[kBlocks];  // this lane's tokens, and its part
  Sum total[kBlocks][4] = {};

  __device__ DecodeWarp(const LinearArguments& arguments, Slot* block_ring)
      : args(arguments),
        ring(block_ring + threadIdx.x / 32 * (kStages * kTiles)),
        row(threadIdx.x % 32 / 4),
        part(threadIdx.x % 4),
        chunks((arguments.k + Words::kChunk - 1) / Words::kChunk) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      // tokens that are not there are multiplied as others are, and left out
      x[b] = arguments.x + min(b * kTokenBlock + row, arguments.m - 1) * arguments.x_stride +
             Words::offset(part, 0) * static_cast<int>(sizeof(XElement));
    }
    const int tiles = (args.n + kTileRows - 1) / kTileRows;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      tile[i] = args.silu_mul ? static_cast<int>(blockIdx.x) + i * (tiles / 2)
                              : min(static_cast<int>(blockIdx.x) * kTiles + i, tiles - 1);
      base[i] = kTiled ? args.codes + tile[i] * args.row_bytes + (threadIdx.x % 32) * 16
                       : args.codes + min(tile[i] * kTileRows + row, args.n - 1) * args.row_bytes + part * 16;
    }
  }

  // Starts the copies of one chunk. What is copied is there: tiles are padded to whole chunks, rows to 16 bytes.
  __device__ __forceinline__ void copy(int chunk, Slot* slots) const {
    const bool there = kTiled || chunk * Words::kChunk + Words::offset(part, 0) < args.k;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const std::int64_t offset = static_cast<std::int64_t>(chunk) * Words::kStep;
      copy_async(&slots[i].codes[threadIdx.x % 32], there ? base[i] + offset : base[i], there);
      if constexpr (kGroups) copy_group(tile[i] * chunks + chunk, slots[i]);
    }
  }

  // Lanes 0 and 1 copy the scales of a group, lane 2 its zeros. group: of all groups of all tiles.
  __device__ __forceinline__ void copy_group(std::int64_t group, Slot& slot) const {
    const int lane = threadIdx.x % 32, pieces = args.group_scale_type == ScaleType::kF32 ? 2 : 1;
    if (lane < pieces) {
      copy_async(&slot.scales[lane], static_cast<const uint4*>(args.group_scales) + group * pieces + lane, true);
    } else if (lane == 2 && args.group_zeros) {
      copy_async(&slot.zeros, args.group_zeros + group * kTileRows, true);
    }
  }

  // kLast: the chunk at the end of K, which may be a part of one.
  template <bool kLast>
  __device__ __forceinline__ void multiply(int chunk, const Slot* slots) {
    const uint4 low = slots[0].codes[threadIdx.x % 32], high = slots[1].codes[threadIdx.x % 32];
    const std::uint32_t low_zero = minus_zero(slots[0]), high_zero = minus_zero(slots[1]);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      uint4 pieces[Words::kPieces];
#pragma unroll
      for (int p = 0; p < Words::kPieces; ++p) {
        const int k = chunk * Words::kChunk + Words::offset(part, p) - Words::offset(part, 0);
        const char* address = x[b] + k * static_cast<int>(sizeof(XElement));
        pieces[p] = kLast ? load_last_piece<XElement>(address, args.k - k - Words::offset(part, 0))
                          : *reinterpret_cast<const uint4*>(address);
      }
      if constexpr (kGroups) {
        Sum sum[4] = {};
#pragma unroll
        for (int p = 0; p < Words::kPieces; ++p) products(low, high, p, pieces[p], low_zero, high_zero, sum);
        add_group(slots, sum, total[b]);
      } else {
#pragma unroll
        for (int p = 0; p < Words::kPieces; ++p) products(low, high, p, pieces[p], low_zero, high_zero, total[b]);
      }
    }
  }

  // total += scale * sum
  __device__ __forceinline__ void add_group(const Slot* slots, const Sum (&sum)[4], Sum (&all)[4]) const {
    if constexpr (kGroups) {
      const float low_scale = row_scale(slots[0].scales, args.group_scale_type, row);
      const float high_scale = row_scale(slots[1].scales, args.group_scale_type, row);
      all[0] = fmaf(low_scale, sum[0], all[0]);
      all[1] = fmaf(low_scale, sum[1], all[1]);
      all[2] = fmaf(high_scale, sum[2], all[2]);
      all[3] = fmaf(high_scale, sum[3], all[3]);
    }
  }

  // -(136 + zero) of this lane's row, twice.
  __device__ __forceinline__ std::uint32_t minus_zero(const Slot& slot) const {
    std::uint32_t zero = kNoZero;
    if constexpr (kGroups) {
      if (args.group_zeros) zero = reinterpret_cast<const std::uint16_t*>(&slot.zeros)[row];
    }
    return zero * 0x10001u | 0x80008000u;
  }

  // One piece of x with the codes of both tiles that belong to it.
  __device__ __forceinline__ static void products(const uint4& low, const uint4& high, int piece, const uint4& x,
                                                  std::uint32_t low_zero, std::uint32_t high_zero, Sum (&sum)[4]) {
    constexpr int kProducts = 2;  // instructions a piece
#pragma unroll
    for (int j = 0; j < kProducts; ++j) {
      const uint2 upper = Words::operands(low, kProducts * piece + j, low_zero);
      const uint2 lower = Words::operands(high, kProducts * piece + j, high_zero);
      const std::uint32_t codes[4] = {upper.x, lower.x, upper.y, lower.y};
      if constexpr (kIntegers) {
        multiply_int8(sum, codes, word_of(x, 2 * j), word_of(x, 2 * j + 1));
      } else {
        multiply_bf16(sum, codes, word_of(x, 2 * j), word_of(x, 2 * j + 1));
      }
    }
  }

  // All chunks of this warp.
  __device__ __forceinline__ void run() {
    const int step = static_cast<int>(blockDim.x / 32), whole = args.k / Words::kChunk;
    int next = static_cast<int>(threadIdx.x / 32), chunk = next;
    // the weights do not depend on earlier kernels: their first copies are under way before x is there
#pragma unroll
    for (int s = 0; s < kStages; ++s, next += step) {
      if (next < chunks) copy(next, ring + s * kTiles);
      end_copy_group();
    }
    wait_for_earlier_kernels();
    // not before: kernels that wait would take the room of those that work
    let_next_kernel_begin();
    int stage = 0;
    for (; chunk < whole; chunk += step, next += step) {
      wait_for_stage();
      multiply<false>(chunk, ring + stage * kTiles);
      if constexpr (kGroups) __syncwarp();  // all lanes have read the scales that are now replaced
      if (next < chunks) copy(next, ring + stage * kTiles);
      end_copy_group();
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    if (chunk < chunks) {
      wait_for_stage();
      multiply<true>(chunk, ring + stage * kTiles);
    }
  }

  __device__ __forceinline__ static void wait_for_stage() {
    wait_for_copy_groups<kStages - 1>();
    if constexpr (kGroups) __syncwarp();  // other lanes' copies, too
  }
};

template <typename Words, bool kGroups, int kBlocks>
__global__ void __launch_bounds__(kMaxThreads) linear_decode(const LinearArguments args) {
  using Warp = DecodeWarp<Words, kGroups, kBlocks>;
  using Sum = typename Warp::Sum;
  constexpr int kTokens = kBlocks * kTokenBlock, kOutputs = kTokens * kTileRows;  // of a tile
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, row = threadIdx.x % kTileRows;
  Warp state(args, launch_memory<typename Warp::Slot>());
  // of the outputs that this thread finishes, read early
  const int first = state.tile[0] * kTileRows + row, second = state.tile[1] * kTileRows + row;
  const RowTerms first_terms(args, min(first, args.n - 1)), second_terms(args, min(second, args.n - 1));
  state.run();

  // [warps, kTiles, tokens, 8 rows] over the ring, which nothing reads or writes any more
  auto* partial = launch_memory<Sum>();
  wait_for_copy_groups<0>();
  __syncthreads();
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = b * kTokenBlock + 2 * state.part + i % 2;
      partial[((warp * kTiles + i / 2) * kTokens + token) * kTileRows + state.row] = state.total[b][i];
    }
  }
  __syncthreads();
  // i: token and row of a tile
  const auto sum_of = [&](int tile, int i) {
    Sum sum = partial[tile * kOutputs + i];
    for (int w = 1; w < warps; ++w) sum += partial[(w * kTiles + tile) * kOutputs + i];
    return static_cast<float>(sum);
  };
  if (args.silu_mul) {
    for (int i = threadIdx.x; i < kOutputs && i / kTileRows < args.m; i += blockDim.x) {
      const int m = i / kTileRows;
      const float gate = first_terms.value(args, m, sum_of(0, i)), up = second_terms.value(args, m, sum_of(1, i));
      store_result(args, m, first, silu_product(round_bf16(gate), round_bf16(up)));
    }
    return;
  }
  // the last tile may be there twice
  const int tiles = state.tile[0] == state.tile[1] ? 1 : kTiles;
  for (int at = threadIdx.x; at < tiles * kOutputs; at += blockDim.x) {
    const int tile = at / kOutputs, i = at % kOutputs, m = i / kTileRows, n = tile == 0 ? first : second;
    if (m >= args.m || n >= args.n) continue;
    const float sum = sum_of(tile, i);
    store_result(args, m, n, tile == 0 ? first_terms.value(args, m, sum) : second_terms.value(args, m, sum));
  }
}

template <typename Words, bool kGroups, int kBlocks>
void start_blocks(const LinearArguments& arguments, int warps, const Launch& launch) {
  constexpr int kRows = kTiles * kTileRows;
  constexpr std::size_t kRing = kStages * kTiles * sizeof(ChunkSlot<kGroups>);
  static_assert(kRing >= kTiles * kBlocks * kTokenBlock * kTileRows * sizeof(float), "the sums take the ring's place");
  const auto kernel = linear_decode<Words, kGroups, kBlocks>;
  allow_shared_memory(kernel, kMaxThreads / 32 * kRing, "cuda linear");
  start_kernel(launch, "cuda linear", kernel, dim3(static_cast<unsigned>((arguments.n + kRows - 1) / kRows)),
               dim3(static_cast<unsigned>(32 * warps)), static_cast<std::size_t>(warps) * kRing, arguments);
}

template <typename Words, bool kGroups = false>
void start(const LinearArguments& arguments, int warps, const Launch& launch) {
  static_assert(kDecodeTokens == 8 * kTokenBlock);
  if (arguments.m <= kTokenBlock) return start_blocks<Words, kGroups, 1>(arguments, warps, launch);
  if (arguments.m <= 2 * kTokenBlock) return start_blocks<Words, kGroups, 2>(arguments, warps, launch);
  if (arguments.m <= 4 * kTokenBlock) return start_blocks<Words, kGroups, 4>(arguments, warps, launch);
  start_blocks<Words, kGroups, 8>(arguments, warps, launch);
}

}  // namespace

int decode_chunk(CodeType type) {
  switch (type) {
    case CodeType::kBF16:
      return Bf16Words::kChunk;
    case CodeType::kInt4:
      return Int4Words::kChunk;
    default:
      return Int8Words::kChunk;
  }
}

void start_linear_decode(const LinearArguments& arguments, int warps, const Launch& launch) {
  switch (arguments.code_type) {
    case CodeType::kBF16:
      return start<Bf16Words>(arguments, warps, launch);
    case CodeType::kE4M3:
      return start<E4m3Words>(arguments, warps, launch);
    case CodeType::kInt8:
      return arguments.integers ? start<Int8Integers>(arguments, warps, launch)
                                : start<Int8Words>(arguments, warps, launch);
    case CodeType::kInt4:
      return arguments.group_scales ? start<Int4Words, true>(arguments, warps, launch)
                                    : start<Int4Words>(arguments, warps, launch);
  }
}

}  // namespace halftone::cuda
