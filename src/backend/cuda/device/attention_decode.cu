// Attention of one query a sequence. A block takes kSplitKeys keys of one sequence and one key-value head, and all query
// heads that share it: a thread computes the scores of one key, then the output of one dimension. A second kernel joins the
// splits. Where a split begins depends on the place in the sequence alone, and so does the order of every sum.
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/paged_kv.cuh"
#include "backend/cuda/device/reduce.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = kSplitKeys;
static_assert(kThreads >= kMaxHeadDim, "a thread is one dimension in the second half");
static_assert(kSplitKeys % kPageTokens == 0, "a split begins with a page");

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// q . k for kShared queries; k: 16-byte aligned, queries: [kShared][kMaxHeadDim].
template <int kShared>
__device__ __forceinline__ void dot_products(const std::uint16_t* k, const float (*queries)[kMaxHeadDim], int head_dim,
                                             float (&dots)[kShared]) {
#pragma unroll 8
  for (int j = 0; j < head_dim; j += 8) {
    const uint4 words = *reinterpret_cast<const uint4*>(k + j);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t word = i / 2 == 0 ? words.x : i / 2 == 1 ? words.y : i / 2 == 2 ? words.z : words.w;
      const float key = __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
#pragma unroll
      for (int h = 0; h < kShared; ++h) dots[h] = fmaf(queries[h][j + i], key, dots[h]);
    }
  }
}

template <int kShared>
__global__ void __launch_bounds__(kThreads) attend_split(AttentionDecodeArguments args) {
  __shared__ float queries[kShared][kMaxHeadDim];
  __shared__ float weights[kShared][kSplitKeys];
  __shared__ float slots[2][kShared][kThreads / 32];
  const int split = blockIdx.x, kv_head = blockIdx.y, row = blockIdx.z, head_dim = args.kv.head_dim;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const int first = split * kSplitKeys, count = min(args.lengths[row] - first, kSplitKeys);
  if (count <= 0) return;
  const int sequence = args.sequences ? args.sequences[row] : row;
  const std::uint16_t* q = args.q + row * args.q_stride + kv_head * kShared * head_dim;
  for (int i = threadIdx.x; i < kShared * head_dim; i += kThreads)
    queries[i / head_dim][i % head_dim] = bf16_value(q[i]);
  __syncthreads();

  float scores[kShared] = {}, largest[kShared], sums[kShared];
  const bool sees = threadIdx.x < count;
  if (sees) {
    dot_products<kShared>(args.kv.k + key_offset(args.kv, sequence, kv_head, first + threadIdx.x), queries, head_dim,
                          scores);
  }
#pragma unroll
  for (int h = 0; h < kShared; ++h) {
    scores[h] = sees ? scores[h] * args.scale : minus_infinity();
    largest[h] = reduce_block(scores[h], slots[0][h], Largest());
  }
#pragma unroll
  for (int h = 0; h < kShared; ++h) {
    const float weight = sees ? expf(scores[h] - largest[h]) : 0.0f;
    weights[h][threadIdx.x] = weight;
    sums[h] = reduce_block(weight, slots[1][h], Sum());  // its barrier is that of `weights`, too
  }

  if (threadIdx.x >= head_dim) return;
  float outputs[kShared] = {};
  for (int begin = 0; begin < count; begin += kPageTokens) {
    const std::uint16_t* values = args.kv.v + key_offset(args.kv, sequence, kv_head, first + begin) + threadIdx.x;
    const int end = min(kPageTokens, count - begin);
#pragma unroll 16
    for (int s = 0; s < end; ++s) {
      const float value = bf16_value(values[s * head_dim]);
#pragma unroll
      for (int h = 0; h < kShared; ++h) outputs[h] = fmaf(weights[h][begin + s], value, outputs[h]);
    }
  }
#pragma unroll
  for (int h = 0; h < kShared; ++h) {
    const std::int64_t head = static_cast<std::int64_t>(row) * args.heads + kv_head * kShared + h;
    float* partial = args.partial + (head * args.splits + split) * (head_dim + 2);
    partial[threadIdx.x] = outputs[h];
    if (threadIdx.x == 0) {
      partial[head_dim] = largest[h];
      partial[head_dim + 1] = sums[h];
    }
  }
}

// One block a head, one thread a dimension.
__global__ void __launch_bounds__(kMaxHeadDim) join_splits(AttentionDecodeArguments args) {
  const int head = blockIdx.x, row = blockIdx.y, head_dim = args.kv.head_dim;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const int splits = (args.lengths[row] + kSplitKeys - 1) / kSplitKeys;
  const float* partial =
      args.partial + (static_cast<std::int64_t>(row) * args.heads + head) * args.splits * (head_dim + 2);
  if (threadIdx.x >= head_dim) return;
  float largest = minus_infinity();
  for (int s = 0; s < splits; ++s) largest = Largest()(largest, partial[s * (head_dim + 2) + head_dim]);
  float sum = 0, output = 0;
  for (int s = 0; s < splits; ++s) {
    const float* part = partial + s * (head_dim + 2);
    const float factor = expf(part[head_dim] - largest);
    sum = fmaf(part[head_dim + 1], factor, sum);
    output = fmaf(part[threadIdx.x], factor, output);
  }
  args.out[row * args.out_stride + head * head_dim + threadIdx.x] = bf16_code(output / sum);
}

template <int kShared>
void start_shared(const AttentionDecodeArguments& arguments, const Launch& launch) {
  const dim3 blocks(static_cast<unsigned>(arguments.splits), static_cast<unsigned>(arguments.kv.kv_heads),
                    static_cast<unsigned>(arguments.rows));
  start_kernel(launch, "cuda attention", attend_split<kShared>, blocks, dim3(kThreads), 0, arguments);
}

}  // namespace

void start_attention_decode(const AttentionDecodeArguments& arguments, const Launch& launch) {
  using Start = void (*)(const AttentionDecodeArguments&, const Launch&);
  constexpr Start kStarts[kMaxSharedHeads] = {start_shared<1>, start_shared<2>, start_shared<3>, start_shared<4>,
                                              start_shared<5>, start_shared<6>, start_shared<7>, start_shared<8>};
  kStarts[arguments.heads / arguments.kv.kv_heads - 1](arguments, launch);
  const dim3 blocks(static_cast<unsigned>(arguments.heads), static_cast<unsigned>(arguments.rows));
  start_kernel(launch, "cuda attention", join_splits, blocks, dim3(kMaxHeadDim), 0, arguments);
}

}  // namespace halftone::cuda
