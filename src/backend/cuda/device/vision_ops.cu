// A thread takes eight (rotations: two times four) neighbouring elements at a time, 16 bytes.
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/reduce.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/vision_ops.h"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256, kNormThreads = 128, kPiece = 8;

__device__ __forceinline__ const uint4* piece_at(const std::uint16_t* row, int col) {
  return reinterpret_cast<const uint4*>(row + col);
}
__device__ __forceinline__ uint4* piece_at(std::uint16_t* row, int col) { return reinterpret_cast<uint4*>(row + col); }

// Eight consecutive f32, 16-byte aligned.
__device__ __forceinline__ void load_floats(const float* x, float (&values)[kPiece]) {
  const float4 low = *reinterpret_cast<const float4*>(x), high = *reinterpret_cast<const float4*>(x + 4);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

// One warp a row, which stays in registers; the mean and the mean square distance from it are summed one after the other.
// Few enough registers that 4,224 rows run at once on the 132 multiprocessors of an H200.
template <int kPieces>
__global__ void __launch_bounds__(kNormThreads, kPieces <= 5 ? 8 : 4) layer_norm(LayerNormArguments args) {
  const int row = blockIdx.x * (kNormThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (row >= args.rows) return;
  std::uint16_t* x = args.x + row * args.x_stride;
  float values[kPieces][kPiece] = {};
  float sum = 0;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int col = (p * 32 + lane) * kPiece;
    if (col >= args.cols) continue;
    unpack_bf16(*piece_at(x, col), values[p]);
    if (args.added) {
      float added[kPiece];
      unpack_bf16(*piece_at(args.added + row * args.added_stride, col), added);
#pragma unroll
      for (int i = 0; i < kPiece; ++i) values[p][i] = round_bf16(values[p][i] + added[i]);
      *piece_at(x, col) = pack_bf16(values[p]);
    }
#pragma unroll
    for (int i = 0; i < kPiece; ++i) sum += values[p][i];
  }
  const float mean = reduce_warp(sum, Sum()) / static_cast<float>(args.cols);
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    if ((p * 32 + lane) * kPiece >= args.cols) continue;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) squares = fmaf(values[p][i] - mean, values[p][i] - mean, squares);
  }
  const float variance = reduce_warp(squares, Sum()) / static_cast<float>(args.cols);
  const float inverse = 1.0f / sqrtf(variance + args.eps);
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int col = (p * 32 + lane) * kPiece;
    if (col >= args.cols) continue;
    float weight[kPiece], bias[kPiece];
    load_floats(args.weight + col, weight);
    load_floats(args.bias + col, bias);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[p][i] = fmaf((values[p][i] - mean) * inverse, weight[i], bias[i]);
    *piece_at(args.y + row * args.y_stride, col) = pack_bf16(values[p]);
  }
}

// Each of the three steps is rounded.
struct QuickGelu {
  static __device__ __forceinline__ float of(float x) {
    const float scaled = round_bf16(1.702f * x);
    return x * round_bf16(__fdividef(1.0f, 1.0f + __expf(-scaled)));
  }
};
struct GeluErf {
  static __device__ __forceinline__ float of(float x) { return x * 0.5f * (1.0f + erff(x * 0.70710678f)); }
};

template <typename Function>
__global__ void __launch_bounds__(kThreads) activate(ActivateArguments args) {
  const int col = (blockIdx.x * kThreads + threadIdx.x) * kPiece;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    uint4* at = piece_at(args.x + row * args.stride, col);
    float values[kPiece];
    unpack_bf16(*at, values);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[i] = Function::of(values[i]);
    *at = pack_bf16(values);
  }
}

// The products and their sum as f32 each, without fma: the CPU's bits.
__global__ void __launch_bounds__(kThreads) rotate_heads(RotateHeadsArguments args) {
  constexpr int kFour = 4;
  const int half = args.head_dim / 2, pieces = half / kFour, in_row = args.heads * pieces;
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const auto row = static_cast<int>(item / in_row);
  if (row >= args.rows) return;
  const auto in = static_cast<int>(item % in_row);
  const int j = in % pieces * kFour;
  std::uint16_t* low = args.x + row * args.stride + in / pieces * args.head_dim + j;
  auto* low_words = reinterpret_cast<uint2*>(low);
  auto* high_words = reinterpret_cast<uint2*>(low + half);
  float values[kPiece];
  const uint2 a = *low_words, b = *high_words;
  unpack_bf16(make_uint4(a.x, a.y, b.x, b.y), values);
  const float4 cos4 = *reinterpret_cast<const float4*>(args.cos + static_cast<std::int64_t>(row) * half + j);
  const float4 sin4 = *reinterpret_cast<const float4*>(args.sin + static_cast<std::int64_t>(row) * half + j);
  const float cos[kFour] = {cos4.x, cos4.y, cos4.z, cos4.w}, sin[kFour] = {sin4.x, sin4.y, sin4.z, sin4.w};
  float turned[kPiece];
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    const float x = values[i], y = values[kFour + i];
    turned[i] = __fsub_rn(__fmul_rn(x, cos[i]), __fmul_rn(y, sin[i]));
    turned[kFour + i] = __fadd_rn(__fmul_rn(y, cos[i]), __fmul_rn(x, sin[i]));
  }
  const uint4 words = pack_bf16(turned);
  *low_words = make_uint2(words.x, words.y);
  *high_words = make_uint2(words.z, words.w);
}

__global__ void __launch_bounds__(kThreads) round_rows(RoundRowsArguments args) {
  const int col = (blockIdx.x * kThreads + threadIdx.x) * kPiece;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    float values[kPiece];
    load_floats(args.x + row * args.x_stride + col, values);
    *piece_at(args.y + row * args.y_stride, col) = pack_bf16(values);
  }
}

dim3 blocks_of(int rows, int cols) {
  constexpr int kMostRows = 65535;
  const int width = kThreads * kPiece;
  return dim3(static_cast<unsigned>((cols + width - 1) / width),
              static_cast<unsigned>(rows < kMostRows ? rows : kMostRows));
}

}  // namespace

void start_layer_norm(const LayerNormArguments& arguments, const Launch& launch) {
  constexpr int kRows = kNormThreads / 32, kCols = 32 * kPiece;
  const dim3 blocks(static_cast<unsigned>((arguments.rows + kRows - 1) / kRows));
  const auto start = [&](auto kernel) {
    start_kernel(launch, "cuda layer_norm", kernel, blocks, dim3(kNormThreads), 0, arguments);
  };
  if (arguments.cols <= 2 * kCols) return start(layer_norm<2>);
  if (arguments.cols <= 5 * kCols) return start(layer_norm<5>);
  start(layer_norm<kMostNormCols / kCols>);
}

void start_activate(const ActivateArguments& arguments, const Launch& launch) {
  const auto kernel = arguments.activation == Activation::kQuickGelu ? activate<QuickGelu> : activate<GeluErf>;
  start_kernel(launch, "cuda activate", kernel, blocks_of(arguments.rows, arguments.cols), dim3(kThreads), 0,
               arguments);
}

void start_rotate_heads(const RotateHeadsArguments& arguments, const Launch& launch) {
  const std::int64_t items = static_cast<std::int64_t>(arguments.rows) * arguments.heads * (arguments.head_dim / 2 / 4);
  start_kernel(launch, "cuda rotate_heads", rotate_heads,
               dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)), dim3(kThreads), 0, arguments);
}

void start_round_rows(const RoundRowsArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda round_rows", round_rows, blocks_of(arguments.rows, arguments.cols), dim3(kThreads), 0,
               arguments);
}

}  // namespace halftone::cuda
