#include "backend/cuda/device/prompt_blocks.h"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/weight_codes.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// E4M3 of four codes, each in one nibble as code + 8.
__device__ __forceinline__ std::uint32_t e4m3_of_nibbles(std::uint32_t nibbles) {
  constexpr std::uint32_t kMinus8 = 0xcaccced0u, kMinus4 = 0xb8c0c4c8u, kZero = 0x44403800u, kFour = 0x4e4c4a48u;
  const std::uint32_t which = nibbles & 0x7777u;
  const std::uint32_t low = __byte_perm(kMinus8, kMinus4, which), high = __byte_perm(kZero, kFour, which);
  const std::uint32_t bits = nibbles & 0x8888u;  // to a byte each
  const std::uint32_t above = (bits >> 3 & 1) | (bits & 0x80) << 1 | (bits & 0x800) << 5 | (bits & 0x8000) << 9;
  const std::uint32_t mask = above * 0xffu;
  return (low & ~mask) | (high & mask);
}

// A warp takes a tile of 8 rows and 128 inputs.
__global__ void __launch_bounds__(kThreads)
    expand_int4(LinearArguments args, std::uint8_t* codes, std::int64_t stride, float* scales, int column_blocks) {
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32, column = static_cast<int>(warp % column_blocks);
  const std::int64_t n = warp / column_blocks * kTileRows + lane / 4;
  const bool there = n < args.n;
  uint4 words = make_uint4(0, 0, 0, 0);
  float scale = 0.0f;
  if (there) {
    const char* tile = args.codes + n / kTileRows * args.row_bytes + static_cast<std::int64_t>(column) * kTileBytes;
    words = load_once(tile + lane * sizeof(uint4));
    if (lane % 4 == 0) scale = group_scale(args, group_index(args, n, column * kTileCols));
  }
  // the weight does not depend on earlier kernels, but they may still read what is written here
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (!there) return;
  if (lane % 4 == 0) scales[static_cast<std::int64_t>(column) * args.n + n] = scale;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int k = column * kTileCols + i * 32 + lane % 4 * kPieceCodes;
    if (k >= stride) break;
    const std::uint32_t word = word_of(words, i);
    const std::uint32_t even = e4m3_of_nibbles(word), odd = e4m3_of_nibbles(word >> 16);
    *reinterpret_cast<uint2*>(codes + n * stride + k) =
        make_uint2(__byte_perm(even, odd, 0x5140), __byte_perm(even, odd, 0x7362));
  }
}

__global__ void __launch_bounds__(kThreads) spread_input_scales(InputScaleArguments args) {
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= args.rows * args.groups) return;
  const int m = i % args.rows, group = i / args.rows;
  float scale = m < args.m ? 1.0f : 0.0f;
  if (m < args.m && args.scales) scale = args.scales[args.by_group ? m * args.groups + group : m];
  args.target[i] = scale;
}

}  // namespace

void start_expand_int4(const LinearArguments& arguments, std::uint8_t* codes, std::int64_t stride, float* scales,
                       const Launch& launch) {
  const int column_blocks = (arguments.k + kTileCols - 1) / kTileCols;
  const std::int64_t warps = static_cast<std::int64_t>(column_blocks) * ((arguments.n + kTileRows - 1) / kTileRows);
  start_kernel(launch, "cuda linear", expand_int4, dim3(static_cast<unsigned>((warps + kWarps - 1) / kWarps)),
               dim3(kThreads), 0, arguments, codes, stride, scales, column_blocks);
}

void start_spread_input_scales(const InputScaleArguments& arguments, const Launch& launch) {
  const int blocks = (arguments.rows * arguments.groups + kThreads - 1) / kThreads;
  start_kernel(launch, "cuda linear", spread_input_scales, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0,
               arguments);
}

}  // namespace halftone::cuda
