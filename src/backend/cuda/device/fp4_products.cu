#include "backend/cuda/device/fp4_blocks.h"
#include "backend/cuda/device/fp4_products.h"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/weight_codes.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

unsigned blocks_for(std::int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

// A thread takes a block of inputs. Scales that fill a tile are zeros.
template <int kBlock>
__global__ void __launch_bounds__(kThreads) pack_inputs(Fp4InputArguments args) {
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const int count = args.k / kBlock, columns = static_cast<int>(fp4::tiles_of(count, fp4::kTileScales)) * 4;
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), row = i / columns, column = i % columns;
  if (row >= fp4::tiles_of(args.m, fp4::kTileRows) * fp4::kTileRows) return;
  std::uint8_t scale = 0;
  if (row < args.m && column < count) {
    float values[kBlock];
    const auto* x = reinterpret_cast<const uint4*>(args.x + row * args.x_stride + column * kBlock);
#pragma unroll
    for (int j = 0; j < kBlock / 8; ++j) {
      const uint4 piece = x[j];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        values[8 * j + 2 * word] = __uint_as_float(word_of(piece, word) << 16);
        values[8 * j + 2 * word + 1] = __uint_as_float(word_of(piece, word) & 0xffff0000u);
      }
    }
    scale = fp4::scale_of_block(values, kBlock, args.mx);
    auto* codes = reinterpret_cast<std::uint32_t*>(args.to.codes + static_cast<std::int64_t>(row) * (args.k / 2));
#pragma unroll
    for (int j = 0; j < kBlock / 8; ++j) {
      codes[column * (kBlock / 8) + j] = fp4::codes_of_block(values + 8 * j, scale, args.mx);
    }
  }
  args.to.scales[fp4::scale_place(row, column, count)] = scale;
}

// A warp takes a tile of 8 rows and 128 inputs with its scales.
__global__ void __launch_bounds__(kThreads) pack_weight(LinearArguments args, Fp4Codes to, int column_blocks) {
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32, column = static_cast<int>(warp % column_blocks);
  const std::int64_t n = warp / column_blocks * kTileRows + lane / 4;
  const bool there = n < args.n;
  uint4 words = make_uint4(0, 0, 0, 0);
  if (there) {
    const char* tile = args.codes + n / kTileRows * args.row_bytes + static_cast<std::int64_t>(column) * kTileBytes;
    words = load_once(tile + lane * sizeof(uint4));
  }
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (n >= fp4::tiles_of(args.n, fp4::kTileRows) * fp4::kTileRows) return;
  const int count = args.k / args.group, columns = static_cast<int>(fp4::tiles_of(count, fp4::kTileScales)) * 4;
  const int scales = kTileCols / args.group;
  for (int j = lane % 4; j < scales && column * scales + j < columns; j += 4) {
    const int at = column * scales + j;
    const bool known = there && at < count;
    const auto* from = static_cast<const std::uint8_t*>(args.group_scales);
    to.scales[fp4::scale_place(n, at, count)] = known ? from[group_index(args, n, at * args.group)] : 0;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int k = column * kTileCols + i * 32 + lane % 4 * kPieceCodes;
    if (!there || k >= args.k) continue;
    *reinterpret_cast<std::uint32_t*>(to.codes + n * (args.k / 2) + k / 2) = fp4::ascending(word_of(words, i));
  }
}

#ifdef HALFTONE_MXFP4_PRODUCT
// D += A B of 16 x 64 by 64 x 8 codes, each 32 of them multiplied with their scales.
__device__ __forceinline__ void multiply_add_mxfp4(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                                   std::uint32_t a_scales, std::uint32_t b_scales, float (&d)[4]) {
#ifdef __CUDA_ARCH_FEAT_SM120_ALL
  asm volatile(
      "mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, {%10}, {0, 0}, {%11}, {0, 0};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(a_scales), "r"(b_scales));
#else
  __trap();  // run_linear_prompt() starts it on compute capability 12.0 alone
#endif
}

// Two scales, of inputs k .. k + 63, and 0 where there is no such row.
__device__ __forceinline__ std::uint32_t two_scales(const Fp4Codes& from, int row, int rows, int k, int count) {
  if (row >= rows) return 0;
  return *reinterpret_cast<const std::uint16_t*>(from.scales + fp4::scale_place(row, k / 32, count));
}

__device__ __forceinline__ std::uint32_t eight_codes(const Fp4Codes& from, int row, int rows, int k, int cols) {
  if (row >= rows) return 0;
  return *reinterpret_cast<const std::uint32_t*>(from.codes + static_cast<std::int64_t>(row) * (cols / 2) + k / 2);
}

constexpr int kWarpRows = 16, kWarpCols = 32;  // of D

// A warp takes 16 tokens and 32 outputs; the warps of a block share the tokens.
__global__ void __launch_bounds__(kThreads) mxfp4_product(Mxfp4Arguments args) {
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const int lane = threadIdx.x % 32, m = blockIdx.y * kWarpRows;
  const int n = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32) * kWarpCols, count = args.k / 32;
  if (n >= args.n) return;
  float sums[kWarpCols / 8][4] = {};
  for (int k = 0; k < args.k; k += 64) {
    std::uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = eight_codes(args.x, m + fp4::a_row(lane, i), args.m, k + fp4::a_first(lane, i), args.k);
    }
    const std::uint32_t a_scales = two_scales(args.x, m + fp4::a_scale_row(lane), args.m, k, count);
#pragma unroll
    for (int tile = 0; tile < kWarpCols / 8; ++tile) {
      const int col = n + tile * 8 + fp4::b_col(lane);
      std::uint32_t b[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) b[i] = eight_codes(args.w, col, args.n, k + fp4::b_first(lane, i), args.k);
      const int scale_col = n + tile * 8 + fp4::b_scale_col(lane);
      multiply_add_mxfp4(a, b, a_scales, two_scales(args.w, scale_col, args.n, k, count), sums[tile]);
    }
  }
#pragma unroll
  for (int tile = 0; tile < kWarpCols / 8; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = m + fp4::d_row(lane, i), col = n + tile * 8 + fp4::d_col(lane, i);
      if (row < args.m && col < args.n) args.sums[static_cast<std::int64_t>(row) * args.n + col] = sums[tile][i];
    }
  }
}
#endif

}  // namespace

void start_pack_fp4_inputs(const Fp4InputArguments& arguments, const Launch& launch) {
  const int block = arguments.mx ? 32 : 16;
  const std::int64_t rows = fp4::tiles_of(arguments.m, fp4::kTileRows) * fp4::kTileRows;
  const std::int64_t columns = fp4::tiles_of(arguments.k / block, fp4::kTileScales) * fp4::kTileScales;
  start_kernel(launch, "cuda linear", arguments.mx ? pack_inputs<32> : pack_inputs<16>,
               dim3(blocks_for(rows * columns)), dim3(kThreads), 0, arguments);
}

void start_pack_fp4_weight(const LinearArguments& arguments, const Fp4Codes& to, const Launch& launch) {
  const int column_blocks = (arguments.k + kTileCols - 1) / kTileCols;
  const std::int64_t rows = fp4::tiles_of(arguments.n, fp4::kTileRows) * fp4::kTileRows;
  start_kernel(launch, "cuda linear", pack_weight, dim3(blocks_for(rows / kTileRows * column_blocks * 32)),
               dim3(kThreads), 0, arguments, to, column_blocks);
}

#ifdef HALFTONE_MXFP4_PRODUCT
bool has_mxfp4_product() { return true; }

void start_mxfp4_product(const Mxfp4Arguments& arguments, const Launch& launch) {
  constexpr int kBlockCols = kWarps * kWarpCols;
  const dim3 blocks(static_cast<unsigned>((arguments.n + kBlockCols - 1) / kBlockCols),
                    static_cast<unsigned>((arguments.m + kWarpRows - 1) / kWarpRows));
  start_kernel(launch, "cuda linear", mxfp4_product, blocks, dim3(kThreads), 0, arguments);
}
#else
bool has_mxfp4_product() { return false; }

void start_mxfp4_product(const Mxfp4Arguments&, const Launch&) { check(cudaErrorNotSupported, "cuda linear"); }
#endif

}  // namespace halftone::cuda
