#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256;

// kCount consecutive bf16 from memory, and back.
template <int kCount>
struct Piece {
  float values[kCount];
  __device__ __forceinline__ explicit Piece(const std::uint16_t* x) {
    if constexpr (kCount == 1) {
      values[0] = bf16_value(*x);
    } else {
      const uint4 words = *reinterpret_cast<const uint4*>(x);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const std::uint32_t word = word_of(words, i / 2);
        values[i] = __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
      }
    }
  }
  __device__ __forceinline__ void store(std::uint16_t* y) const {
    if constexpr (kCount == 1) {
      *y = bf16_code(values[0]);
    } else {
      *reinterpret_cast<uint4*>(y) = pack_bf16(values);
    }
  }
};
constexpr int kPiece = 8;

template <int kCount>
__global__ void __launch_bounds__(kThreads) silu_mul(SiluMulArguments args) {
  const int col = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kCount;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const std::uint16_t* x = args.gate_up + row * args.gate_up_stride + col;
    Piece<kCount> gate(x);
    const Piece<kCount> up(x + args.cols);
#pragma unroll
    for (int i = 0; i < kCount; ++i) gate.values[i] = silu_product(gate.values[i], up.values[i]);
    gate.store(args.y + row * args.y_stride + col);
  }
}

template <int kCount>
__global__ void __launch_bounds__(kThreads) add(AddArguments args) {
  const int col = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kCount;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    Piece<kCount> a(args.a + row * args.a_stride + col);
    const Piece<kCount> b(args.b + row * args.b_stride + col);
#pragma unroll
    for (int i = 0; i < kCount; ++i) a.values[i] += b.values[i];
    a.store(args.y + row * args.y_stride + col);
  }
}

__global__ void __launch_bounds__(kThreads) embedding(EmbeddingArguments args) {
  const int col = blockIdx.x * kThreads + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const std::int32_t token = args.tokens[row], picture = args.picture_rows ? args.picture_rows[row] : -1;
    // NaN shows a token that is none; the host checks those that it gives
    const bool known = token >= 0 && token < args.vocabulary;
    std::uint16_t value = 0x7fff;
    if (picture >= 0) {
      value = args.pictures[static_cast<std::int64_t>(picture) * args.cols + col];
    } else if (known) {
      value = args.table[static_cast<std::int64_t>(token) * args.cols + col];
    }
    args.y[row * args.y_stride + col] = value;
  }
}

__global__ void __launch_bounds__(kThreads) arrange_input(ArrangeInputArguments args) {
  const int col = blockIdx.x * kThreads + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  const int from = args.order ? args.order[col] : col;
  const float scale = args.scales ? args.scales[from] : 1.0f;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    args.y[row * args.y_stride + col] = bf16_code(bf16_value(args.x[row * args.x_stride + from]) * scale);
  }
}

dim3 blocks_of(int rows, int cols) {
  constexpr int kMostRows = 65535;
  return dim3(static_cast<unsigned>((cols + kThreads - 1) / kThreads),
              static_cast<unsigned>(rows < kMostRows ? rows : kMostRows));
}

// Rows that begin at multiples of 16 bytes.
bool in_pieces(const std::uint16_t* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % (2 * kPiece) == 0 && stride % kPiece == 0;
}

}  // namespace

void start_silu_mul(const SiluMulArguments& arguments, const Launch& launch) {
  const SiluMulArguments& a = arguments;
  const bool whole = a.cols % kPiece == 0 && in_pieces(a.gate_up, a.gate_up_stride) && in_pieces(a.y, a.y_stride);
  start_kernel(launch, "cuda silu_mul", whole ? silu_mul<kPiece> : silu_mul<1>,
               blocks_of(a.rows, whole ? a.cols / kPiece : a.cols), dim3(kThreads), 0, arguments);
}

void start_add(const AddArguments& arguments, const Launch& launch) {
  const AddArguments& a = arguments;
  const bool whole =
      a.cols % kPiece == 0 && in_pieces(a.a, a.a_stride) && in_pieces(a.b, a.b_stride) && in_pieces(a.y, a.y_stride);
  start_kernel(launch, "cuda add", whole ? add<kPiece> : add<1>, blocks_of(a.rows, whole ? a.cols / kPiece : a.cols),
               dim3(kThreads), 0, arguments);
}

void start_embedding(const EmbeddingArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda embedding", embedding, blocks_of(arguments.rows, arguments.cols), dim3(kThreads), 0,
               arguments);
}

void start_arrange_input(const ArrangeInputArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda arrange_input", arrange_input, blocks_of(arguments.rows, arguments.cols), dim3(kThreads),
               0, arguments);
}

}  // namespace halftone::cuda
