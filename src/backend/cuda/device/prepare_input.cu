// One block a row.
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/prepare_input.h"
#include "backend/cuda/device/reduce.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "formats/e4m3.h"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;

// ops/linear_kernels.h's token_scale().
__device__ float scale_of_token(InputCodes codes, float amax) {
  constexpr float kLeast = 0x1p-23f, kLargestFloat = 3.402823466e38f;
  if (!(amax <= kLargestFloat)) return __uint_as_float(0x7fc00000u);
  const float scale = amax / (codes == InputCodes::kInt8 ? 127.5f : 448.0f);
  return scale == 0 ? kLeast : scale;
}

__device__ float code_value(InputCodes codes, float quotient) {
  if (codes == InputCodes::kE4M3) return e4m3::decode(e4m3::encode_saturated(quotient));
  const float rounded = rintf(quotient);
  return rounded > -128.0f ? fminf(rounded, 127.0f) : -128.0f;  // NaN becomes -128, as on the CPU
}

// h of one element.
__device__ float hidden_value(const PrepareInputArguments& args, const std::uint16_t* x, int col, float inverse) {
  const float value = bf16_value(x[col]);
  return args.norm ? round_bf16(args.norm[col] * round_bf16(value * inverse)) : value;
}

__global__ void __launch_bounds__(kThreads) prepare_input(PrepareInputArguments args) {
  __shared__ double squares[kWarps];
  __shared__ float magnitudes[kWarps];
  const std::uint16_t* x = args.x + blockIdx.x * args.x_stride;
  wait_for_earlier_kernels();
  let_next_kernel_begin();

  float inverse = 1.0f;
  if (args.norm) {
    double sum = 0;
#pragma unroll 4
    for (int col = threadIdx.x; col < args.cols; col += kThreads) {
      const double value = bf16_value(x[col]);
      sum += value * value;
    }
    sum = reduce_block(sum, squares, Sum());
    inverse = static_cast<float>(1.0 / sqrt(sum / args.cols + static_cast<double>(args.eps)));
  }

  float step = args.step;
  if (args.y_scales) {
    float amax = 0;
    for (int col = threadIdx.x; col < args.cols; col += kThreads) {
      amax = Largest()(amax, fabsf(hidden_value(args, x, col, inverse)));
    }
    step = scale_of_token(args.codes, reduce_block(amax, magnitudes, Largest()));
    if (threadIdx.x == 0) args.y_scales[blockIdx.x] = step;
  }

#pragma unroll 4
  for (int col = threadIdx.x; col < args.cols; col += kThreads) {
    float value = hidden_value(args, x, col, inverse);
    if (args.codes != InputCodes::kNone) value = code_value(args.codes, value / step);
    const std::int64_t at = blockIdx.x * args.y_stride + col;
    if (args.y_bytes) {
      static_cast<std::uint8_t*>(args.y)[at] = args.codes == InputCodes::kE4M3
                                                   ? e4m3::encode(value)
                                                   : static_cast<std::uint8_t>(static_cast<signed char>(value));
    } else {
      static_cast<std::uint16_t*>(args.y)[at] = bf16_code(value);
    }
  }
}

}  // namespace

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda prepare_input", prepare_input, dim3(static_cast<unsigned>(arguments.rows)), dim3(kThreads),
               0, arguments);
}

}  // namespace halftone::cuda
