// What comes before and after the library's products of many tokens.
#include "backend/cuda/device/linear_prompt.h"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/weight_codes.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kPieces = 4;                            // that a lane takes at once
constexpr int kRowCols = 32 * kPieces * kPieceCodes;  // inputs that a warp takes of one row; of 8 rows: kTileCols

// What a warp writes: the rows of a tile or one row, so that it reads 512 bytes of 4-bit codes, or 1 KiB of bytes, at once.
template <bool kTiles>
struct ExpandedPieces {
  std::int64_t n;
  int k;  // of the first piece
  __device__ ExpandedPieces(std::int64_t warp, int column_blocks, int lane) {
    const std::int64_t row = warp / column_blocks;
    const int column = static_cast<int>(warp % column_blocks);
    n = kTiles ? row * kTileRows + lane / 4 : row;
    k = kTiles ? column * kTileCols + lane % 4 * kPieceCodes : column * kRowCols + lane * kPieceCodes;
  }
  __device__ int input(int piece) const { return k + piece * (kTiles ? 32 : 32 * kPieceCodes); }
};

template <bool kTiles>
__global__ void __launch_bounds__(kThreads)
    expand_weight(LinearArguments args, std::uint16_t* target, std::int64_t stride, int column_blocks) {
  __shared__ CodeLevels levels;
  const int lane = threadIdx.x % 32;
  const ExpandedPieces<kTiles> at(static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32, column_blocks,
                                  lane);
  load_levels(args, levels);
  __syncthreads();
  RawPiece pieces[kPieces];
  if (at.n < args.n) {
    if constexpr (kTiles) {
      const char* tile = args.codes + at.n / kTileRows * args.row_bytes + at.k / kTileCols * kTileBytes;
      const uint4 words = reinterpret_cast<const uint4*>(tile)[lane];
      pieces[0].words[0] = words.x, pieces[1].words[0] = words.y;
      pieces[2].words[0] = words.z, pieces[3].words[0] = words.w;
    } else {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        if (at.input(i) < args.k) load_codes(args, at.n, at.input(i), pieces[i]);
      }
    }
  }
  // the weight does not depend on earlier kernels, but they may still read what is written here
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (at.n >= args.n) return;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int k = at.input(i);
    if (k >= stride) break;
    float values[kPieceCodes];
    const float scale = piece_values(args, pieces[i], at.n, k, levels, values);
#pragma unroll
    for (int j = 0; j < kPieceCodes; ++j) values[j] *= scale;
    *reinterpret_cast<uint4*>(target + at.n * stride + k) = pack_bf16(values);
  }
}

__global__ void __launch_bounds__(kThreads) finish_sums(LinearArguments args, const void* sums) {
  const int n = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (n >= args.n) return;
  const RowTerms terms(args, n);
  for (int m = blockIdx.y; m < args.m; m += gridDim.y) {
    const std::int64_t at = static_cast<std::int64_t>(m) * args.n + n;
    const float sum = args.integers ? static_cast<float>(static_cast<const std::int32_t*>(sums)[at])
                                    : static_cast<const float*>(sums)[at];
    store_result(args, m, n, terms.value(args, m, sum));
  }
}

// The same of sums in pieces of eight, for y and a residual in bf16 whose rows begin at multiples of 16 bytes.
constexpr int kFinishedCols = 8, kFinishedRows = 4;  // that a thread takes: columns at once, rows one after another

__global__ void __launch_bounds__(kThreads) finish_pieces(LinearArguments args, const uint4* sums) {
  const int n = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kFinishedCols;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (n >= args.n) return;
  RowTerms terms[kFinishedCols];
#pragma unroll
  for (int i = 0; i < kFinishedCols; ++i) terms[i] = RowTerms(args, n + i);
  const int first = static_cast<int>(blockIdx.y) * kFinishedRows;
#pragma unroll
  for (int m = first; m < first + kFinishedRows; ++m) {
    if (m >= args.m) break;
    const uint4* at = sums + (static_cast<std::int64_t>(m) * args.n + n) / 4;
    const uint4 low = at[0], high = at[1];
    const std::uint32_t words[kFinishedCols] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    uint4 added = make_uint4(0, 0, 0, 0);
    if (args.residual) added = *reinterpret_cast<const uint4*>(args.residual + m * args.residual_stride + n);
    const std::uint32_t residuals[kFinishedCols / 2] = {added.x, added.y, added.z, added.w};
    const float x_scale = args.x_scales ? args.x_scales[m] : 1.0f;
    float values[kFinishedCols];
#pragma unroll
    for (int i = 0; i < kFinishedCols; ++i) {
      const float sum = args.integers ? static_cast<float>(static_cast<int>(words[i])) : __uint_as_float(words[i]);
      values[i] = terms[i].value(sum, x_scale);
      const std::uint32_t residual = residuals[i / 2];
      if (args.residual) {
        values[i] = round_bf16(values[i]) + __uint_as_float(i % 2 ? residual & 0xffff0000u : residual << 16);
      }
    }
    *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(args.y) + m * args.y_stride + n) = pack_bf16(values);
  }
}

bool in_pieces(const void* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % kFinishedCols == 0;
}

dim3 blocks_of(std::int64_t cols, std::int64_t rows) {
  constexpr std::int64_t kMost = 65535;
  return dim3(static_cast<unsigned>((cols + kThreads - 1) / kThreads),
              static_cast<unsigned>(rows < kMost ? rows : kMost));
}

}  // namespace

void start_expand_weight(const LinearArguments& arguments, std::uint16_t* target, std::int64_t stride,
                         const Launch& launch) {
  const bool tiles = lies_in_tiles(arguments.code_type);
  const std::int64_t cols = tiles ? kTileCols : kRowCols, rows = tiles ? kTileRows : 1;
  const std::int64_t column_blocks = (stride + cols - 1) / cols, row_blocks = (arguments.n + rows - 1) / rows;
  const dim3 blocks(static_cast<unsigned>((column_blocks * row_blocks + kWarps - 1) / kWarps));
  start_kernel(launch, "cuda linear", tiles ? expand_weight<true> : expand_weight<false>, blocks, dim3(kThreads), 0,
               arguments, target, stride, static_cast<int>(column_blocks));
}

void start_finish_sums(const LinearArguments& arguments, const void* sums, const Launch& launch) {
  if (!arguments.y_f32 && arguments.n % kFinishedCols == 0 && in_pieces(arguments.y, arguments.y_stride) &&
      in_pieces(arguments.residual, arguments.residual ? arguments.residual_stride : 0)) {
    const dim3 blocks(static_cast<unsigned>((arguments.n / kFinishedCols + kThreads - 1) / kThreads),
                      static_cast<unsigned>((arguments.m + kFinishedRows - 1) / kFinishedRows));
    return start_kernel(launch, "cuda linear", finish_pieces, blocks, dim3(kThreads), 0, arguments,
                        static_cast<const uint4*>(sums));
  }
  start_kernel(launch, "cuda linear", finish_sums, blocks_of(arguments.n, arguments.m), dim3(kThreads), 0, arguments,
               sums);
}

}  // namespace halftone::cuda
