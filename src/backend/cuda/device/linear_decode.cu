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

template <typename Words, bool kGroups, int kBlocks, bool kStaged>
__global__ void __launch_bounds__(kMaxThreads) linear_decode(const LinearArguments args, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  using Ring = WarpRing<kStages<kGroups, kStaged>, ChunkCopies<Words, kGroups>>;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  Ring ring{launch_memory<typename Ring::Slot>() + warp * Ring::kSlots, {}};
  ring.copies.begin(args, {args.codes, args.group_scales, args.group_zeros}, warp, warps, blockIdx.x, gridDim.x);
  multiply_pairs<ChunkProducts<Words, kGroups, kBlocks>, kBlocks, kStaged>(args, staged_stride, scratch, ring);
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
