// The product for every shape, format and M that upload_linear() makes: the last row of the table. One warp an element of
// y; lane l takes the inputs l, l + 32, ... under one scale, ascending, by fma; then the lanes are added in a tree.

#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/weight_codes.cuh"

namespace halftone::cuda {
namespace {

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
      const std::int64_t at = group_index(n, g, groups);
      const float sum = any_inner_sum(args, x, n, g * group, min((g + 1) * group, static_cast<std::int64_t>(args.k)),
                                      any_zero(args, at));
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
