#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) silu_mul(SiluMulArguments args) {
  const int col = blockIdx.x * kThreads + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const std::uint16_t* x = args.gate_up + row * args.gate_up_stride;
    const float gate = bf16_value(x[col]), up = bf16_value(x[args.cols + col]);
    args.y[row * args.y_stride + col] = bf16_code(silu_product(gate, up));
  }
}

__global__ void __launch_bounds__(kThreads) add(AddArguments args) {
  const int col = blockIdx.x * kThreads + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    std::uint16_t& y = args.y[row * args.y_stride + col];
    y = bf16_code(bf16_value(args.x[row * args.x_stride + col]) + bf16_value(y));
  }
}

__global__ void __launch_bounds__(kThreads) embedding(EmbeddingArguments args) {
  const int col = blockIdx.x * kThreads + threadIdx.x;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (col >= args.cols) return;
  for (int row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const std::int32_t token = args.tokens[row];
    // NaN shows a token that is none; the host checks those that it gives
    const bool known = token >= 0 && token < args.vocabulary;
    args.y[row * args.y_stride + col] =
        known ? args.table[static_cast<std::int64_t>(token) * args.cols + col] : std::uint16_t{0x7fff};
  }
}

dim3 blocks_of(int rows, int cols) {
  constexpr int kMostRows = 65535;
  return dim3(static_cast<unsigned>((cols + kThreads - 1) / kThreads),
              static_cast<unsigned>(rows < kMostRows ? rows : kMostRows));
}

}  // namespace

void start_silu_mul(const SiluMulArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda silu_mul", silu_mul, blocks_of(arguments.rows, arguments.cols), dim3(kThreads), 0,
               arguments);
}

void start_add(const AddArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda add", add, blocks_of(arguments.rows, arguments.cols), dim3(kThreads), 0, arguments);
}

void start_embedding(const EmbeddingArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda embedding", embedding, blocks_of(arguments.rows, arguments.cols), dim3(kThreads), 0,
               arguments);
}

}  // namespace halftone::cuda
