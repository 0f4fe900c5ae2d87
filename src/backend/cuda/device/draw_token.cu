// Draws tokens: the cuts and the draw each look for the first token, in the order of keys, at which a sum reaches a target.
// Three passes over the logits find its key, eight bits each: blocks count the tokens and their weights by these bits, and the
// last block of a row to end goes on with the bits at which the sum is reached.
#include "backend/cuda/device/draw_token.h"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = DrawProgress::kBins, kItems = 8;
constexpr int kLevels = 3, kLevelBits = 8;
constexpr int kLowBits = 20;  // weights are summed in two halves: of the 2,048 tokens of a block these do not overflow
static_assert(kLevels * kLevelBits == kDrawKeyBits && kThreads * kItems < 1 << (32 - kLowBits) &&
              kDrawWeightBits <= 2 * kLowBits);

enum class Search : int { kTopK, kTopP, kDraw };

__device__ bool takes_part(Search search, const TokenDraw& draw, int cols) {
  if (draw.greedy()) return false;
  if (search == Search::kTopK) return draw.top_k > 0 && draw.top_k < cols;
  return search == Search::kDraw || draw.top_p < 1;
}

struct BlockSums {
  std::uint32_t counts[kThreads], low[kThreads], high[kThreads];
};

// Adds the block's tokens to the row's sums. True in the last block of the row.
__device__ bool count_tokens(const DrawTokenArguments& args, int level, const TokenDraw& draw, DrawProgress& progress) {
  __shared__ BlockSums sums;
  __shared__ bool is_last;
  const int bin = threadIdx.x, shift = kDrawKeyBits - kLevelBits * level;
  sums.counts[bin] = sums.low[bin] = sums.high[bin] = 0;
  __syncthreads();
  const float* row = args.logits + blockIdx.y * args.stride;
  const float largest = row[args.tokens[blockIdx.y]];
  for (int i = 0; i < kItems; ++i) {
    const int col = (blockIdx.x * kItems + i) * kThreads + threadIdx.x;
    if (col >= args.cols) break;
    const std::uint32_t key = draw_key(largest, row[col], draw.keys_per_logit);
    if (key >> shift != progress.prefix) continue;
    const std::uint32_t digit = key >> (shift - kLevelBits) & (kThreads - 1);
    const std::uint64_t weight = draw_weight(key);
    atomicAdd(&sums.counts[digit], 1u);
    atomicAdd(&sums.low[digit], static_cast<std::uint32_t>(weight & ((1u << kLowBits) - 1)));
    atomicAdd(&sums.high[digit], static_cast<std::uint32_t>(weight >> kLowBits));
  }
  __syncthreads();
  if (sums.counts[bin] > 0) {
    atomicAdd(&progress.counts[bin], sums.counts[bin]);
    atomicAdd(&progress.weights[bin], (static_cast<unsigned long long>(sums.high[bin]) << kLowBits) + sums.low[bin]);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&progress.blocks_done, 1u) + 1 == gridDim.x;
  __syncthreads();
  return is_last;
}

// Sums of all bins up to each thread's own.
__device__ unsigned long long sum_bins(unsigned long long value, unsigned long long* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    if (static_cast<int>(threadIdx.x) >= step) value += shared[threadIdx.x - step];
    __syncthreads();
    shared[threadIdx.x] = value;
    __syncthreads();
  }
  return value;
}

// The search has found its token's key: what is left, or the token.
__device__ void end_search(Search search, DrawProgress& progress) {
  const std::uint32_t key = progress.prefix;
  const unsigned long long weight = draw_weight(key);
  const unsigned long long rank = search == Search::kTopK
                                      ? progress.target - progress.count_before
                                      : (progress.target - progress.weight_before + weight - 1) / weight;
  progress.total = progress.weight_before + rank * weight;
  if (search == Search::kDraw) {
    progress.key = key;
    progress.rank = rank;
  }
  progress.prefix = 0;
  progress.weight_before = progress.count_before = 0;
}

__global__ void __launch_bounds__(kThreads) search_tokens(DrawTokenArguments args, Search search, int level) {
  __shared__ unsigned long long memory[kThreads];
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const TokenDraw draw = args.draws[blockIdx.y];
  DrawProgress& progress = args.progress[blockIdx.y];
  if (args.tokens[blockIdx.y] < 0 || !takes_part(search, draw, args.cols)) return;
  if (!count_tokens(args, level, draw, progress)) return;
  __threadfence();
  const unsigned long long count = __ldcg(&progress.counts[threadIdx.x]),
                           weight = __ldcg(&progress.weights[threadIdx.x]);
  progress.counts[threadIdx.x] = 0;
  progress.weights[threadIdx.x] = 0;
  const unsigned long long counts = sum_bins(count, memory), weights = sum_bins(weight, memory);
  if (level == 0 && threadIdx.x == kThreads - 1) {
    const unsigned long long total = progress.total > 0 ? progress.total : weights;
    progress.target = search == Search::kTopK   ? static_cast<unsigned long long>(draw.top_k)
                      : search == Search::kTopP ? draw_cut(draw.top_p, total)
                                                : draw_point(Random(draw.random).next(), total) + 1;
  }
  __syncthreads();
  const bool by_count = search == Search::kTopK;
  const unsigned long long sum = by_count ? progress.count_before + counts : progress.weight_before + weights;
  const bool reached = sum >= progress.target && sum - (by_count ? count : weight) < progress.target;
  __syncthreads();
  if (!reached) return;
  progress.prefix = progress.prefix << kLevelBits | threadIdx.x;
  progress.count_before += counts - count;
  progress.weight_before += weights - weight;
  progress.blocks_done = 0;
  if (level + 1 == kLevels) end_search(search, progress);
}

// The id of the token that was drawn: a block a row.
constexpr int kTakeThreads = 1024;
__global__ void __launch_bounds__(kTakeThreads) take_token(DrawTokenArguments args) {
  __shared__ int warps[kTakeThreads / 32];
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const TokenDraw draw = args.draws[blockIdx.x];
  const std::int32_t best = args.tokens[blockIdx.x];
  if (best < 0 || draw.greedy()) return;
  DrawProgress& progress = args.progress[blockIdx.x];
  const std::uint32_t key = progress.key;
  unsigned long long rank = progress.rank;
  const float* row = args.logits + blockIdx.x * args.stride;
  const float largest = row[best];
  for (int begin = 0; begin < args.cols; begin += kTakeThreads) {
    const int col = begin + static_cast<int>(threadIdx.x), warp = threadIdx.x / 32;
    const bool equal = col < args.cols && draw_key(largest, row[col], draw.keys_per_logit) == key;
    const auto found = static_cast<unsigned long long>(__syncthreads_count(equal));
    if (found < rank) {
      rank -= found;
      continue;
    }
    const std::uint32_t lanes = __ballot_sync(0xffffffffu, equal);
    if (threadIdx.x % 32 == 0) warps[warp] = __popc(lanes);
    __syncthreads();
    unsigned long long own = __popc(lanes & ((2u << threadIdx.x % 32) - 1));
    for (int w = 0; w < warp; ++w) own += warps[w];
    if (equal && own == rank) args.tokens[blockIdx.x] = col;
    break;
  }
  if (threadIdx.x != 0) return;
  args.draws[blockIdx.x] = draw.next();
  progress.total = 0;
}

}  // namespace

void start_draw_token(const DrawTokenArguments& arguments, const DrawCuts& cuts, const Launch& launch) {
  const auto rows = static_cast<unsigned>(arguments.rows);
  const dim3 blocks(static_cast<unsigned>((arguments.cols + kThreads * kItems - 1) / (kThreads * kItems)), rows);
  for (const Search search : {Search::kTopK, Search::kTopP, Search::kDraw}) {
    if ((search == Search::kTopK && !cuts.top_k) || (search == Search::kTopP && !cuts.top_p)) continue;
    for (int level = 0; level < kLevels; ++level) {
      start_kernel(launch, "cuda draw_token", search_tokens, blocks, dim3(kThreads), 0, arguments, search, level);
    }
  }
  start_kernel(launch, "cuda draw_token", take_token, dim3(rows), dim3(kTakeThreads), 0, arguments);
}

}  // namespace halftone::cuda
