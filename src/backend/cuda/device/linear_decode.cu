// The product for few tokens, which takes as long as reading the weight: M <= kDecodeTokens.
//
// linear_decode.cuh says who takes what. Copies run on into the block's next two tiles. Rows of x for which there is room lie
// in shared memory, prepared there where they are not yet; a load of x among those of the weight would wait for all that was
// asked for before it.

#include <algorithm>

#include "backend/cuda/device/linear_decode.cuh"
#include "backend/cuda/device/start_decode.cuh"

namespace halftone::cuda {
namespace {

// Chunks under way. More of them win time where a block goes on to other tiles, but not for INT4, of which a chunk is a whole
// group; elsewhere they cost the room of other blocks.
template <bool kGroups, bool kStaged>
constexpr int kStages = kStaged && !kGroups ? 6 : 4;

// Shared memory: the rings of the warps, then their sums where kStaged, then the rows of x, staged_stride bytes each.
template <typename Words, bool kGroups, int kBlocks, bool kStaged>
__global__ void __launch_bounds__(kMaxThreads) linear_decode(const LinearArguments args, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  using Products = ChunkProducts<Words, kGroups, kBlocks>;
  using Ring = WarpRing<kStages<kGroups, kStaged>, ChunkCopies<Words, kGroups>>;
  using Sum = typename Products::Sum;
  constexpr int kOutputs = kTiles * kBlocks * kTokenBlock * kTileRows;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const bool scaled_here = args.prepares && args.in.by_token;
  const auto x_scale = [&](int m) { return scaled_here ? scratch.step[m] : args.x_scales ? args.x_scales[m] : 1.0f; };
  Ring ring{launch_memory<typename Ring::Slot>() + warp * Ring::kSlots, {}};
  ring.copies.begin(args, {args.codes, args.group_scales, args.group_zeros}, warp, warps, blockIdx.x, gridDim.x);
  // the weights do not depend on earlier kernels: their first copies are under way before x is there
  ring.begin();
  wait_for_earlier_kernels();
  // not before: kernels that wait would take the room of those that work
  let_next_kernel_begin();
  // without rows of x a block has one pair of tiles, and the sums take the ring's place
  const int ring_bytes = warps * Ring::kSlots * static_cast<int>(sizeof(typename Ring::Slot));
  auto* partial = reinterpret_cast<Sum*>(launch_memory<char>() + (kStaged ? ring_bytes : 0));
  char* staged = launch_memory<char>() + ring_bytes + warps * (kOutputs * static_cast<int>(sizeof(Sum)));
  if constexpr (kStaged) stage_rows<typename Products::XElement>(args, staged, staged_stride, scratch);
  Products products(args, kStaged ? staged : args.x, kStaged ? staged_stride : args.x_stride);
  const int pairs = pairs_of(args);
  for (int pair = blockIdx.x; pair < pairs; pair += gridDim.x) {
    const PairOutputs<kBlocks> outputs(args, pair, threadIdx.x, blockDim.x);
    products.run(
        warp, warps, [&] { return ring.take(); }, [&] { ring.give_back(); });
    if constexpr (!kStaged) wait_for_copy_groups<0>();
    __syncthreads();  // nobody reads the sums of the pair before, or the ring, any more
    products.store(partial + warp * kOutputs);
    __syncthreads();
    outputs.store([&](int at) { return sum_of_warps(partial + at, kOutputs, warps); }, x_scale);
  }
}

}  // namespace

int decode_blocks(int pairs, int warps, std::size_t shared_bytes) {
  constexpr int kThreads = 1024;                  // of a multiprocessor: enough to keep its copies going
  constexpr std::size_t kStaticBytes = 3 * 1024;  // and what the device keeps
  int device = 0, multiprocessors = 0, shared = 0;
  check(cudaGetDevice(&device), "cuda linear");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cuda linear");
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device), "cuda linear");
  const int fit = static_cast<int>(static_cast<std::size_t>(shared) / (shared_bytes + kStaticBytes));
  const int at_once = multiprocessors * std::max(1, std::min(fit, kThreads / (32 * warps)));
  const int rounds = (pairs + at_once - 1) / at_once;
  return (pairs + rounds - 1) / rounds;
}

namespace {

template <typename Words, bool kGroups, int kBlocks, bool kStaged>
void start_blocks(const LinearArguments& arguments, int warps, const Launch& launch) {
  using Products = ChunkProducts<Words, kGroups, kBlocks>;
  constexpr std::size_t kRing = kStages<kGroups, kStaged> * kTiles * sizeof(typename Products::Slot);
  constexpr std::size_t kSums = kTiles * kBlocks * kTokenBlock * kTileRows * sizeof(float);
  start_pairs<kRing, kSums, kStaged>(linear_decode<Words, kGroups, kBlocks, kStaged>, arguments,
                                     arguments.k * static_cast<int>(sizeof(typename Products::XElement)), warps,
                                     launch);
}

template <typename Words, bool kGroups = false>
void start(const LinearArguments& arguments, int warps, const Launch& launch) {
  static_assert(kDecodeTokens == 8 * kTokenBlock);
  const int element = arguments.integers ? 1 : 2;
  if (arguments.m <= kTokenBlock && arguments.m * staged_stride(arguments.k * element) <= kMostStagedBytes) {
    return start_blocks<Words, kGroups, 1, true>(arguments, warps, launch);
  }
  if (arguments.m <= kTokenBlock) return start_blocks<Words, kGroups, 1, false>(arguments, warps, launch);
  if (arguments.m <= 2 * kTokenBlock) return start_blocks<Words, kGroups, 2, false>(arguments, warps, launch);
  if (arguments.m <= 4 * kTokenBlock) return start_blocks<Words, kGroups, 4, false>(arguments, warps, launch);
  start_blocks<Words, kGroups, 8, false>(arguments, warps, launch);
}

}  // namespace

int decode_chunk(CodeType type) {
  switch (type) {
    case CodeType::kBF16:
      return Bf16Words::kChunk;
    case CodeType::kInt4:
    case CodeType::kE2M1:
      return Int4Words::kChunk;
    default:
      return Int8Words::kChunk;
  }
}

void start_linear_decode(const LinearArguments& arguments, int warps, const Launch& launch) {
  const bool chunks = arguments.code_type == CodeType::kInt4 && arguments.scaling == Scaling::kChunk &&
                      arguments.group == Int4Words::kChunk;
  if (arguments.scaling != Scaling::kNone && !chunks) return start_linear_decode_groups(arguments, warps, launch);
  switch (arguments.code_type) {
    case CodeType::kBF16:
      return start<Bf16Words>(arguments, warps, launch);
    case CodeType::kE4M3:
      return start<E4m3Words>(arguments, warps, launch);
    case CodeType::kInt8:
      return arguments.integers ? start<Int8Integers>(arguments, warps, launch)
                                : start<Int8Words>(arguments, warps, launch);
    default:
      return arguments.group_scales ? start<Int4Words, true>(arguments, warps, launch)
                                    : start<Int4Words>(arguments, warps, launch);
  }
}

}  // namespace halftone::cuda
