// What comes before and after the library's products of many tokens.
#include "backend/cuda/device/linear_prompt.h"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/weight_codes.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256, kAtOnce = 8;

// Eight consecutive inputs of row n from `begin` on.
__device__ __forceinline__ uint4 expanded(const LinearArguments& args, std::int64_t n, int begin) {
  const std::int64_t groups = (args.k + args.group - 1) / args.group;
  std::uint32_t words[kAtOnce / 2];
#pragma unroll
  for (int i = 0; i < kAtOnce; i += 2) {
    float values[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int k = begin + i + j;
      values[j] = 0.0f;
      if (k >= args.k) continue;
      values[j] = any_code(args, n, k);
      if (args.group_scales) {
        const std::int64_t at = group_index(n, k / args.group, groups);
        values[j] = (values[j] - any_zero(args, at)) * any_scale(args, at);
      }
    }
    words[i / 2] = pack_bf16x2(values[0], values[1]);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

__global__ void __launch_bounds__(kThreads)
    expand_weight(LinearArguments args, std::uint16_t* target, std::int64_t stride) {
  const int begin = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kAtOnce;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (begin >= stride) return;
  for (std::int64_t n = blockIdx.y; n < args.n; n += gridDim.y) {
    *reinterpret_cast<uint4*>(target + n * stride + begin) = expanded(args, n, begin);
  }
}

__global__ void __launch_bounds__(kThreads) finish_sums(LinearArguments args, const void* sums) {
  const int n = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (n >= args.n) return;
  const RowTerms terms(args, n);
  for (int m = blockIdx.y; m < args.m; m += gridDim.y) {
    const std::int64_t at = static_cast<std::int64_t>(m) * args.n + n;
    const float sum = args.integers ? static_cast<float>(static_cast<const std::int32_t*>(sums)[at])
                                    : static_cast<const float*>(sums)[at];
    store_result(args, m, n, terms.value(args, m, sum));
  }
}

dim3 blocks_of(std::int64_t cols, std::int64_t rows) {
  constexpr std::int64_t kMost = 65535;
  return dim3(static_cast<unsigned>((cols + kThreads - 1) / kThreads),
              static_cast<unsigned>(rows < kMost ? rows : kMost));
}

}  // namespace

void start_expand_weight(const LinearArguments& arguments, std::uint16_t* target, std::int64_t stride,
                         const Launch& launch) {
  start_kernel(launch, "cuda linear", expand_weight, blocks_of(stride / kAtOnce, arguments.n), dim3(kThreads), 0,
               arguments, target, stride);
}

void start_finish_sums(const LinearArguments& arguments, const void* sums, const Launch& launch) {
  start_kernel(launch, "cuda linear", finish_sums, blocks_of(arguments.n, arguments.m), dim3(kThreads), 0, arguments,
               sums);
}

}  // namespace halftone::cuda
