// The product for every shape, format and M that upload_linear() makes: the last row of the table. One warp a row of W, eight
// inputs a lane at a time, which it multiplies with those of up to kTokens rows of x; lane l takes the pieces l, l + 32, ...
// of K, ascending, each summed by itself, multiplied with its scale and added by fma; then the lanes are added in a tree.

#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/reduce.cuh"
#include "backend/cuda/device/start_kernel.cuh"
#include "backend/cuda/device/weight_codes.cuh"

namespace halftone::cuda {
namespace {

constexpr int kWarps = 4;

// Inputs k .. k + 7 of token m as the product takes them, 0 from K on.
__device__ __forceinline__ void load_inputs(const LinearArguments& args, bool aligned, int m, int k,
                                            float (&values)[kPieceCodes]) {
  const char* row = args.x + m * args.x_stride;
  if (args.integers) {
#pragma unroll
    for (int i = 0; i < kPieceCodes; ++i)
      values[i] = k + i < args.k ? static_cast<float>(reinterpret_cast<const signed char*>(row)[k + i]) : 0.0f;
    return;
  }
  const auto* codes = reinterpret_cast<const std::uint16_t*>(row) + k;
  if (aligned && k + kPieceCodes <= args.k) {
    unpack_bf16(*reinterpret_cast<const uint4*>(codes), values);
  } else {
#pragma unroll
    for (int i = 0; i < kPieceCodes; ++i) values[i] = k + i < args.k ? bf16_value(codes[i]) : 0.0f;
  }
  if (!args.x_group_scales) return;
  const float scale = args.x_group_scales[static_cast<std::int64_t>(m) * args.x_groups + k / kInputGroup];
#pragma unroll
  for (int i = 0; i < kPieceCodes; ++i) values[i] *= scale;
}

// kTokens: rows of x that share what is decoded.
template <int kTokens>
__global__ void __launch_bounds__(32 * kWarps) linear_any(LinearArguments args) {
  __shared__ CodeLevels levels;
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  load_levels(args, levels);
  __syncthreads();
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  if (n >= args.n) return;
  const bool aligned = reinterpret_cast<std::uintptr_t>(args.x) % 16 == 0 && args.x_stride % 16 == 0;
  for (int first = blockIdx.y * kTokens; first < args.m; first += gridDim.y * kTokens) {
    float total[kTokens] = {};
    std::int32_t integer[kTokens] = {};
#pragma unroll 2
    for (int k = threadIdx.x % 32 * kPieceCodes; k < args.k; k += 32 * kPieceCodes) {
      RawPiece piece;
      float weights[kPieceCodes];
      load_codes(args, n, k, piece);
      const float scale = piece_values(args, piece, n, k, levels, weights);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (first + t >= args.m) break;
        float inputs[kPieceCodes], sum = 0;
        load_inputs(args, aligned, first + t, k, inputs);
#pragma unroll
        for (int i = 0; i < kPieceCodes; ++i) sum = fmaf(inputs[i], weights[i], sum);
        if (args.integers) {
          integer[t] += static_cast<std::int32_t>(sum);  // eight products of bytes are exact
        } else {
          total[t] = fmaf(scale, sum, total[t]);
        }
      }
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (first + t >= args.m) break;
      const float sum =
          args.integers ? static_cast<float>(reduce_warp(integer[t], Sum())) : reduce_warp(total[t], Sum());
      if (threadIdx.x % 32 != 0) continue;
      store_result(args, first + t, static_cast<int>(n),
                   RowTerms(args, static_cast<int>(n)).value(args, first + t, sum));
    }
  }
}

template <int kTokens>
void start_tokens(const LinearArguments& arguments, const Launch& launch) {
  constexpr int kMostBlocks = 65535;
  const int blocks = (arguments.m + kTokens - 1) / kTokens;
  const dim3 grid(static_cast<unsigned>((arguments.n + kWarps - 1) / kWarps),
                  static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
  start_kernel(launch, "cuda linear", linear_any<kTokens>, grid, dim3(32 * kWarps), 0, arguments);
}

}  // namespace

void start_linear_any(const LinearArguments& arguments, const Launch& launch) {
  if (arguments.m == 1) return start_tokens<1>(arguments, launch);
  start_tokens<8>(arguments, launch);
}

}  // namespace halftone::cuda
