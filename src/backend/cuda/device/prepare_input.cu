// One block a row.
#include "backend/cuda/device/input_rows.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 4 * kRowThreads;  // the norm of a row is for a part of them

__global__ void __launch_bounds__(kThreads) prepare_input(PrepareInputArguments args) {
  __shared__ InputScratch<1> scratch;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  InputRows in = args.in;
  in.x += blockIdx.x * in.x_stride;
  in.rows = 1;
  if (in.group_scales) in.group_scales += blockIdx.x * static_cast<std::int64_t>((in.cols + in.block - 1) / in.block);
  prepare_rows(in, scratch, [&](int, int col, const float(&values)[kPiece]) {
    const std::int64_t at = blockIdx.x * args.y_stride + col;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (col + i >= in.cols) break;
      if (args.y_bytes) {
        static_cast<std::uint8_t*>(args.y)[at + i] =
            in.codes == InputCodes::kE4M3 ? e4m3::encode(values[i])
                                          : static_cast<std::uint8_t>(static_cast<signed char>(values[i]));
      } else {
        static_cast<std::uint16_t*>(args.y)[at + i] = bf16_code(values[i]);
      }
    }
  });
  if (in.by_token && threadIdx.x == 0) args.y_scales[blockIdx.x] = scratch.step[0];
}

}  // namespace

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda prepare_input", prepare_input, dim3(static_cast<unsigned>(arguments.in.rows)),
               dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
