// One block a row.
#include "backend/cuda/device/input_rows.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 2 * kRowThreads;  // the norm of a row is for a part of them

__device__ __forceinline__ std::uint32_t byte_of(InputCodes codes, float value) {
  return codes == InputCodes::kE4M3 ? e4m3::encode(value) : static_cast<std::uint8_t>(static_cast<signed char>(value));
}

// Eight codes of a row from y on, in one byte each or in bf16; the first `count` of them.
__device__ __forceinline__ void store_piece(InputCodes codes, const float (&values)[kPiece], int count, bool bytes,
                                            void* y) {
  const auto* address = static_cast<const char*>(y);
  if (count >= kPiece && reinterpret_cast<std::uintptr_t>(address) % (bytes ? 8 : 16) == 0) {
    if (bytes) {
      const auto word = [&](int i) {
        return byte_of(codes, values[i]) | byte_of(codes, values[i + 1]) << 8 | byte_of(codes, values[i + 2]) << 16 |
               byte_of(codes, values[i + 3]) << 24;
      };
      *static_cast<uint2*>(y) = make_uint2(word(0), word(4));
    } else {
      *static_cast<uint4*>(y) = make_uint4(pack_bf16x2(values[0], values[1]), pack_bf16x2(values[2], values[3]),
                                           pack_bf16x2(values[4], values[5]), pack_bf16x2(values[6], values[7]));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    if (i >= count) break;
    if (bytes) {
      static_cast<std::uint8_t*>(y)[i] = static_cast<std::uint8_t>(byte_of(codes, values[i]));
    } else {
      static_cast<std::uint16_t*>(y)[i] = bf16_code(values[i]);
    }
  }
}

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
    store_piece(in.codes, values, in.cols - col, args.y_bytes,
                static_cast<char*>(args.y) + (args.y_bytes ? at : 2 * at));
  });
  if (in.by_token && threadIdx.x == 0) args.y_scales[blockIdx.x] = scratch.step[0];
}

}  // namespace

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda prepare_input", prepare_input, dim3(static_cast<unsigned>(arguments.in.rows)),
               dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
