// The product for every shape, format and M that upload_linear() makes: the last row of the table. One warp an element of
// y; lane l takes the inputs l, l + 32, ... under one scale, ascending, by fma; then the lanes are added in a tree.

#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

__device__ __forceinline__ float e4m3_value(std::uint8_t code) {
  if ((code & 0x7f) == 0x7f) return __uint_as_float(0x7fc00000u);
  const std::uint32_t bits = (code & 0x80u) << 24 | (code & 0x7fu) << 20;
  return __uint_as_float(bits) * 0x1p120f;
}

// The code of (row, col) among the words of start_pack_int4_tiles().
__device__ __forceinline__ std::uint32_t int4_tile_code(const LinearArguments& args, std::int64_t row,
                                                        std::int64_t col) {
  const int lane = static_cast<int>(row % 8 * 4 + col % 32 / 8), i = static_cast<int>(col % 8);
  const char* tile = args.codes + row / 8 * args.row_bytes + col / 128 * 512;
  return reinterpret_cast<const std::uint32_t*>(tile)[lane * 4 + col % 128 / 32] >> (i / 2 * 4 + i % 2 * 16) & 0xf;
}

__device__ __forceinline__ float any_code(const LinearArguments& args, std::int64_t n, std::int64_t k) {
  const char* row = args.codes + n * args.row_bytes;
  switch (args.code_type) {
    case CodeType::kBF16:
      return bf16_value(reinterpret_cast<const std::uint16_t*>(row)[k]);
    case CodeType::kInt8:
      return static_cast<float>(reinterpret_cast<const signed char*>(row)[k]);
    case CodeType::kE4M3:
      return e4m3_value(static_cast<std::uint8_t>(row[k]));
    default:
      return static_cast<float>(static_cast<int>(int4_tile_code(args, n, k)) - 8);
  }
}

__device__ __forceinline__ float any_scale(const LinearArguments& args, std::int64_t index) {
  if (args.group_scale_type == ScaleType::kF32) return static_cast<const float*>(args.group_scales)[index];
  const std::uint16_t code = static_cast<const std::uint16_t*>(args.group_scales)[index];
  return args.group_scale_type == ScaleType::kBF16 ? bf16_value(code) : f16_value(code);
}

// The sum over the inputs [begin, end) in the lanes of this warp.
__device__ __forceinline__ float any_inner_sum(const LinearArguments& args, const char* x, std::int64_t n,
                                               std::int64_t begin, std::int64_t end, float zero) {
  float sum = 0;
  std::int32_t integer = 0;
  for (std::int64_t k = begin + threadIdx.x % 32; k < end; k += 32) {
    const float code = any_code(args, n, k) - zero;
    if (args.integers) {
      integer += reinterpret_cast<const signed char*>(x)[k] * static_cast<std::int32_t>(code);
    } else {
      sum = fmaf(bf16_value(reinterpret_cast<const std::uint16_t*>(x)[k]), code, sum);
    }
  }
  for (int lane = 16; lane > 0; lane /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, lane);
    integer += __shfl_xor_sync(0xffffffffu, integer, lane);
  }
  return args.integers ? static_cast<float>(integer) : sum;
}

__global__ void linear_any(LinearArguments args) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const std::int64_t group = args.group, groups = (args.k + group - 1) / group;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (n >= args.n) return;
  for (int m = blockIdx.y; m < args.m; m += gridDim.y) {
    const char* x = args.x + m * args.x_stride;
    float total = 0;
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t at = (n / kTileRows * groups + g) * kTileRows + n % kTileRows;
      const float zero = args.group_zeros ? bf16_value(args.group_zeros[at]) - 136.0f : 0.0f;
      const float sum =
          any_inner_sum(args, x, n, g * group, min((g + 1) * group, static_cast<std::int64_t>(args.k)), zero);
      total = args.group_scales ? fmaf(any_scale(args, at), sum, total) : sum;
    }
    if (threadIdx.x % 32 == 0)
      store_result(args, m, static_cast<int>(n), RowTerms(args, static_cast<int>(n)).value(args, m, total));
  }
}

}  // namespace

void start_linear_any(const LinearArguments& arguments, const Launch& launch) {
  constexpr int kWarps = 4, kMostBlocks = 65535;
  const dim3 blocks(static_cast<unsigned>((arguments.n + kWarps - 1) / kWarps),
                    static_cast<unsigned>(arguments.m < kMostBlocks ? arguments.m : kMostBlocks));
  start_kernel(launch, "cuda linear", linear_any, blocks, dim3(32 * kWarps), 0, arguments);
}

}  // namespace halftone::cuda
