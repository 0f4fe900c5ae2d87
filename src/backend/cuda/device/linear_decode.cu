// The product for few tokens, which takes as long as reading the weight: M <= 8.
//
// A block owns kTiles * 8 rows of W and all of K. Its warps take chunks of K in turn: warp w the chunks w, w + warps, ...
// A lane loads 16 bytes of a row at a time, kDepth loads (for each tile) ahead of their use, past the first cache. The
// matrix units multiply them with up to eight rows of x; rows that are not there are zero. So the time hardly depends on M
// and the order of summation does not at all: within a warp by chunks, ascending; then over the warps, ascending.

#include <type_traits>

#include "backend/cuda/device/code_words.cuh"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr std::uint32_t kNoZero = 0x4308;  // bf16(136)

// The scales of rows 2 t and 2 t + 1 of a tile; index: that of the first.
__device__ __forceinline__ float2 load_scale_pair(const void* scales, ScaleType type, std::int64_t index) {
  if (type == ScaleType::kF32) return *reinterpret_cast<const float2*>(static_cast<const float*>(scales) + index);
  const std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint16_t*>(scales) + index);
  const auto low = static_cast<std::uint16_t>(pair & 0xffff), high = static_cast<std::uint16_t>(pair >> 16);
  return type == ScaleType::kBF16 ? make_float2(bf16_value(low), bf16_value(high))
                                  : make_float2(f16_value(low), f16_value(high));
}

// 16 bytes of a row of x, zero from `valid` elements on. Rows begin at multiples of 16 bytes: what lies behind the last
// element up to such a multiple is padding that may be read.
template <typename Element>
__device__ __forceinline__ uint4 load_piece(const char* row, int offset, int valid) {
  constexpr int kElements = 16 / sizeof(Element), kInWord = 4 / sizeof(Element);
  if (valid <= 0) return make_uint4(0, 0, 0, 0);
  uint4 v = *reinterpret_cast<const uint4*>(row + offset * static_cast<int>(sizeof(Element)));
  if (valid < kElements) {
    const auto keep = [&](int word) {
      const int count = valid - word * kInWord;
      return count >= kInWord ? 0xffffffffu
             : count <= 0     ? 0u
                              : (1u << (count * 8 * static_cast<int>(sizeof(Element)))) - 1;
    };
    v = make_uint4(v.x & keep(0), v.y & keep(1), v.z & keep(2), v.w & keep(3));
  }
  return v;
}

// One warp's loads of kDepth chunks: codes, and where each chunk is a group its scales and zeros.
template <typename Words, int kTiles, int kDepth, bool kGroups>
struct Batch {
  uint4 codes[kDepth][kTiles];
  float2 scales[kGroups ? kDepth : 1][kTiles];
  std::uint32_t minus_zeros[kDepth][kTiles];  // -(136 + zero), twice
};

template <typename Words, int kTiles, int kDepth, bool kGroups>
struct DecodeWarp {
  // INT8 products sum exactly in integers
  static constexpr bool kIntegers = std::is_same_v<Words, Int8Integers>;
  static constexpr bool kTiled = std::is_same_v<Words, Int4Words>;
  using Sum = std::conditional_t<kIntegers, std::int32_t, float>;
  using XElement = std::conditional_t<kIntegers, std::uint8_t, std::uint16_t>;

  const LinearArguments& args;
  int row, part;  // of this lane: row / 4 and its rest
  int chunks;     // of K
  const char* base[kTiles];
  int tile[kTiles];
  const char* x_row;
  Sum total[kTiles][4] = {};

  __device__ DecodeWarp(const LinearArguments& arguments, int first_tile)
      : args(arguments),
        row(threadIdx.x % 32 / 4),
        part(threadIdx.x % 4),
        chunks((arguments.k + Words::kChunk - 1) / Words::kChunk),
        x_row(arguments.x + row * arguments.x_stride) {
    const int last_tile = (args.n - 1) / kTileRows;
    for (int i = 0; i < kTiles; ++i) {
      tile[i] = min(first_tile + i, last_tile);
      base[i] = kTiled ? args.codes + static_cast<std::int64_t>(tile[i]) * args.row_bytes + (threadIdx.x % 32) * 16
                       : args.codes + min(tile[i] * kTileRows + row, args.n - 1) * args.row_bytes + part * 16;
    }
  }

  __device__ __forceinline__ void load(int chunk, int step, Batch<Words, kTiles, kDepth, kGroups>& batch) const {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const int c = chunk + d * step;
      // what is loaded is there: tiles are padded to whole chunks, rows to 16 bytes
      const bool there = kTiled ? c < chunks : c * Words::kChunk + Words::offset(part, 0) < args.k;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        batch.codes[d][i] =
            there ? load_once(base[i] + static_cast<std::int64_t>(c) * Words::kStep) : make_uint4(0, 0, 0, 0);
        if constexpr (kGroups) {
          const std::int64_t at = (static_cast<std::int64_t>(tile[i]) * chunks + c) * kTileRows;
          batch.scales[d][i] = there ? load_scale_pair(args.group_scales, args.group_scale_type, at + 2 * part)
                                     : make_float2(0.0f, 0.0f);
          const std::uint32_t zero = there && args.group_zeros ? args.group_zeros[at + row] : kNoZero;
          batch.minus_zeros[d][i] = zero * 0x10001u | 0x80008000u;
        } else {
          batch.minus_zeros[d][i] = kNoZero * 0x10001u | 0x80008000u;
        }
      }
    }
  }

  __device__ __forceinline__ void multiply(int chunk, int step, const Batch<Words, kTiles, kDepth, kGroups>& batch) {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const int c = chunk + d * step;
      if (c >= chunks) break;
      Sum sum[kTiles][4] = {};  // of a group
#pragma unroll
      for (int p = 0; p < Words::kPieces; ++p) {
        const int k = c * Words::kChunk + Words::offset(part, p);
        const uint4 x = row < args.m ? load_piece<XElement>(x_row, k, args.k - k) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          products(batch.codes[d][i], p, x, batch.minus_zeros[d][i], kGroups ? sum[i] : total[i]);
        }
      }
      if constexpr (kGroups) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          total[i][0] = fmaf(batch.scales[d][i].x, sum[i][0], total[i][0]);
          total[i][1] = fmaf(batch.scales[d][i].y, sum[i][1], total[i][1]);
        }
      }
    }
  }

  // One piece of x with the codes that belong to it.
  __device__ __forceinline__ static void products(const uint4& codes, int piece, const uint4& x,
                                                  std::uint32_t minus_zero, Sum (&sum)[4]) {
    constexpr int kProducts = 2;  // instructions a piece
#pragma unroll
    for (int j = 0; j < kProducts; ++j) {
      const uint2 b = Words::operands(codes, kProducts * piece + j, minus_zero);
      if constexpr (kIntegers) {
        multiply_int8(sum, word_of(x, 2 * j), word_of(x, 2 * j + 1), b.x, b.y);
      } else {
        multiply_bf16(sum, word_of(x, 2 * j), word_of(x, 2 * j + 1), b.x, b.y);
      }
    }
  }
};

template <typename Words, int kTiles, int kDepth, bool kGroups>
__global__ void __launch_bounds__(256, 3) linear_decode(const LinearArguments args) {
  using Warp = DecodeWarp<Words, kTiles, kDepth, kGroups>;
  auto* partial = launch_memory<typename Warp::Sum>();  // [warps, kTiles, 8 tokens, 8 rows]
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  Warp state(args, blockIdx.x * kTiles);

  // the weights do not depend on earlier kernels: their first loads are under way before x is there
  Batch<Words, kTiles, kDepth, kGroups> batch;
  state.load(warp, warps, batch);
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  const int stride = warps * kDepth;
  for (int chunk = warp; chunk < state.chunks; chunk += stride) {
    Batch<Words, kTiles, kDepth, kGroups> next;
    state.load(chunk + stride, warps, next);
    state.multiply(chunk, warps, batch);
    batch = next;
  }

#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    auto* pair = partial + ((warp * kTiles + i) * kDecodeTokens + state.row) * kTileRows + 2 * state.part;
    pair[0] = state.total[i][0];
    pair[1] = state.total[i][1];
  }
  __syncthreads();
  constexpr int kOutputs = kTiles * kDecodeTokens * kTileRows;
  for (int o = threadIdx.x; o < kOutputs; o += blockDim.x) {
    const int m = o / kTileRows % kDecodeTokens;
    const int n = (blockIdx.x * kTiles + o / (kTileRows * kDecodeTokens)) * kTileRows + o % kTileRows;
    if (m >= args.m || n >= args.n) continue;
    auto sum = partial[o];
    for (int w = 1; w < warps; ++w) sum += partial[w * kOutputs + o];
    store_result(args, m, n, static_cast<float>(sum));
  }
}

template <typename Words, int kTiles, bool kGroups>
void start(const LinearArguments& arguments, int warps, const Launch& launch) {
  constexpr int kDepth = 4 / kTiles, kRows = kTiles * kTileRows;
  start_kernel(launch, "cuda linear", linear_decode<Words, kTiles, kDepth, kGroups>,
               dim3(static_cast<unsigned>((arguments.n + kRows - 1) / kRows)), dim3(static_cast<unsigned>(32 * warps)),
               static_cast<std::size_t>(warps * kRows * kDecodeTokens) * sizeof(float), arguments);
}

template <typename Words, bool kGroups = false>
void choose(const LinearArguments& arguments, DecodeCut cut, const Launch& launch) {
  if (cut.tiles == 2) {
    start<Words, 2, kGroups>(arguments, cut.warps, launch);
  } else {
    start<Words, 1, kGroups>(arguments, cut.warps, launch);
  }
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

void start_linear_decode(const LinearArguments& arguments, DecodeCut cut, const Launch& launch) {
  switch (arguments.code_type) {
    case CodeType::kBF16:
      return choose<Bf16Words>(arguments, cut, launch);
    case CodeType::kE4M3:
      return choose<E4m3Words>(arguments, cut, launch);
    case CodeType::kInt8:
      return arguments.integers ? choose<Int8Integers>(arguments, cut, launch)
                                : choose<Int8Words>(arguments, cut, launch);
    case CodeType::kInt4:
      return arguments.group_scales ? choose<Int4Words, true>(arguments, cut, launch)
                                    : choose<Int4Words>(arguments, cut, launch);
  }
}

}  // namespace halftone::cuda
