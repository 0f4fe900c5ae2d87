// The product for few tokens, which takes as long as reading the weight: M <= kDecodeTokens.
//
// A block takes two tiles of 8 rows of W at a time, and all of K. Its warps take chunks of K in turn: warp w the chunks w,
// w + warps, ... A lane copies 16 bytes of a row at a time to a ring of its own in shared memory, kStages ahead of their use
// and on into the block's next two tiles, so that much of the weight is under way whatever the registers hold. Rows of x for
// which there is room lie in shared memory, prepared there where they are not yet; a load of x among those of the weight
// would wait for all that was asked for before it. The matrix units multiply them with kBlocks times eight rows of x; what
// they make of rows that are not there is left out. So the order of summation does not depend on M at all: within a warp by
// chunks, ascending; then over the warps, ascending.

#include <algorithm>
#include <type_traits>

#include "backend/cuda/device/code_words.cuh"
#include "backend/cuda/device/input_rows.cuh"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr std::uint32_t kNoZero = 0x4308;  // bf16(136)
constexpr int kMaxThreads = 512, kTiles = 2, kStages = 4;

// One chunk of one tile in the ring: the lanes' codes and, where a chunk is a group, its scales and zeros.
template <bool kGroups>
struct ChunkSlot {
  uint4 codes[32];
};
template <>
struct ChunkSlot<true> {
  uint4 codes[32];
  uint4 scales[2];  // eight f32, or eight of 16 bits in the first
  uint4 zeros;      // eight bf16
};

// The scale of one row of a tile.
__device__ __forceinline__ float row_scale(const uint4* scales, ScaleType type, int row) {
  const auto* words = reinterpret_cast<const std::uint32_t*>(scales);
  if (type == ScaleType::kF32) return __uint_as_float(words[row]);
  const std::uint32_t code = words[row / 2] >> (row % 2 * 16);
  return type == ScaleType::kBF16 ? __uint_as_float(code << 16) : f16_value(static_cast<std::uint16_t>(code));
}

// 16 bytes of a row of x, zero from `valid` elements on. Rows begin at multiples of 16 bytes: what lies behind the last
// element up to such a multiple is padding that may be read.
template <typename Element>
__device__ __forceinline__ uint4 load_last_piece(const char* address, int valid) {
  constexpr int kInWord = 4 / sizeof(Element);
  if (valid <= 0) return make_uint4(0, 0, 0, 0);
  const uint4 v = *reinterpret_cast<const uint4*>(address);
  const auto keep = [&](int word) {
    const int count = valid - word * kInWord;
    return count >= kInWord ? 0xffffffffu
           : count <= 0     ? 0u
                            : (1u << (count * 8 * static_cast<int>(sizeof(Element)))) - 1;
  };
  return make_uint4(v.x & keep(0), v.y & keep(1), v.z & keep(2), v.w & keep(3));
}

// kBlocks: of eight tokens.
template <typename Words, bool kGroups, int kBlocks>
struct DecodeWarp {
  // INT8 products sum exactly in integers
  static constexpr bool kIntegers = std::is_same_v<Words, Int8Integers>;
  static constexpr bool kTiled = std::is_same_v<Words, Int4Words>;
  using Sum = std::conditional_t<kIntegers, std::int32_t, float>;
  using XElement = std::conditional_t<kIntegers, std::uint8_t, std::uint16_t>;
  using Slot = ChunkSlot<kGroups>;

  const LinearArguments& args;
  Slot* ring;  // [kStages, kTiles]
  const int lane, warp, warps;
  const int row, part;             // of this lane: lane / 4 and its rest
  const int tiles, pairs, chunks;  // of W, and of K
  int stage = 0;
  // the next copy: a chunk of two tiles, where they lie, and where their scales and zeros lie that this lane copies
  int copy_pair, copy_chunk;
  const char* codes[kTiles];
  const uint4* group[kTiles];
  int group_step = 0;      // from chunk to chunk; 0: another lane's
  const char* x[kBlocks];  // this lane's tokens, and its part
  Sum total[kBlocks][4];

  __device__ DecodeWarp(const LinearArguments& arguments, Slot* block_ring)
      : args(arguments),
        ring(block_ring + threadIdx.x / 32 * (kStages * kTiles)),
        lane(threadIdx.x % 32),
        warp(threadIdx.x / 32),
        warps(blockDim.x / 32),
        row(lane / 4),
        part(lane % 4),
        tiles((arguments.n + kTileRows - 1) / kTileRows),
        pairs((tiles + kTiles - 1) / kTiles),
        chunks((arguments.k + Words::kChunk - 1) / Words::kChunk),
        copy_pair(warp < chunks ? static_cast<int>(blockIdx.x) : pairs),
        copy_chunk(warp) {
    if constexpr (kGroups) {
      if (lane < scale_pieces()) group_step = scale_pieces();
      if (lane == 2 && args.group_zeros) group_step = 1;
    }
    point_at(static_cast<int>(blockIdx.x));
  }

  // x: [M] rows, `stride` bytes from one to the next. Tokens that are not there are multiplied as others are, and left out.
  __device__ __forceinline__ void read_from(const char* rows, std::int64_t stride) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      x[b] = rows + min(b * kTokenBlock + row, args.m - 1) * stride +
             Words::offset(part, 0) * static_cast<int>(sizeof(XElement));
    }
  }

  __device__ __forceinline__ int tile(int pair, int i) const {
    return args.silu_mul ? pair + i * (tiles / 2) : min(pair * kTiles + i, tiles - 1);
  }
  // Pieces of 16 bytes that hold the scales of a group of a tile.
  __device__ __forceinline__ int scale_pieces() const { return args.group_scale_type == ScaleType::kF32 ? 2 : 1; }

  __device__ __forceinline__ void point_at(int pair) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int at = tile(pair, i);
      codes[i] = kTiled ? args.codes + at * args.row_bytes + lane * 16
                        : args.codes + min(at * kTileRows + row, args.n - 1) * args.row_bytes + part * 16;
      if constexpr (kGroups) {
        const auto* source = reinterpret_cast<const uint4*>(lane == 2 ? args.group_zeros : args.group_scales);
        group[i] = source + static_cast<std::int64_t>(at) * chunks * group_step + (lane == 2 ? 0 : lane);
      }
    }
  }

  // Starts the next chunk's copies. What is copied is there: tiles are padded to whole chunks, rows to 16 bytes.
  __device__ __forceinline__ void copy_next(int into) {
    if (copy_pair < pairs) {
      const bool there = kTiled || copy_chunk * Words::kChunk + Words::offset(part, 0) < args.k;
      const std::int64_t offset = static_cast<std::int64_t>(copy_chunk) * Words::kStep;
      Slot* slots = ring + into * kTiles;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        copy_async(&slots[i].codes[lane], there ? codes[i] + offset : codes[i], there);
        if constexpr (kGroups) {
          if (group_step > 0) {
            copy_async(reinterpret_cast<uint4*>(&slots[i]) + 32 + lane, group[i] + copy_chunk * group_step, true);
          }
        }
      }
      copy_chunk += warps;
      if (copy_chunk >= chunks) {
        copy_chunk = warp;
        copy_pair += static_cast<int>(gridDim.x);
        if (copy_pair < pairs) point_at(copy_pair);
      }
    }
    end_copy_group();
  }
  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int s = 0; s < kStages; ++s) copy_next(s);
  }

  // kLast: the chunk at the end of K, which may be a part of one.
  template <bool kLast>
  __device__ __forceinline__ void multiply(int chunk, const Slot* slots) {
    const uint4 low = slots[0].codes[lane], high = slots[1].codes[lane];
    const std::uint32_t low_zero = minus_zero(slots[0]), high_zero = minus_zero(slots[1]);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      uint4 pieces[Words::kPieces];
#pragma unroll
      for (int p = 0; p < Words::kPieces; ++p) {
        const int k = chunk * Words::kChunk + Words::offset(part, p) - Words::offset(part, 0);
        const char* address = x[b] + k * static_cast<int>(sizeof(XElement));
        pieces[p] = kLast ? load_last_piece<XElement>(address, args.k - k - Words::offset(part, 0))
                          : *reinterpret_cast<const uint4*>(address);
      }
      if constexpr (kGroups) {
        Sum sum[4] = {};
#pragma unroll
        for (int p = 0; p < Words::kPieces; ++p) products(low, high, p, pieces[p], low_zero, high_zero, sum);
        add_group(slots, sum, total[b]);
      } else {
#pragma unroll
        for (int p = 0; p < Words::kPieces; ++p) products(low, high, p, pieces[p], low_zero, high_zero, total[b]);
      }
    }
  }

  // total += scale * sum
  __device__ __forceinline__ void add_group(const Slot* slots, const Sum (&sum)[4], Sum (&all)[4]) const {
    if constexpr (kGroups) {
      const float low_scale = row_scale(slots[0].scales, args.group_scale_type, row);
      const float high_scale = row_scale(slots[1].scales, args.group_scale_type, row);
      all[0] = fmaf(low_scale, sum[0], all[0]);
      all[1] = fmaf(low_scale, sum[1], all[1]);
      all[2] = fmaf(high_scale, sum[2], all[2]);
      all[3] = fmaf(high_scale, sum[3], all[3]);
    }
  }

  // -(136 + zero) of this lane's row, twice.
  __device__ __forceinline__ std::uint32_t minus_zero(const Slot& slot) const {
    std::uint32_t zero = kNoZero;
    if constexpr (kGroups) {
      if (args.group_zeros) zero = reinterpret_cast<const std::uint16_t*>(&slot.zeros)[row];
    }
    return zero * 0x10001u | 0x80008000u;
  }

  // One piece of x with the codes of both tiles that belong to it.
  __device__ __forceinline__ static void products(const uint4& low, const uint4& high, int piece, const uint4& x,
                                                  std::uint32_t low_zero, std::uint32_t high_zero, Sum (&sum)[4]) {
    constexpr int kProducts = 2;  // instructions a piece
#pragma unroll
    for (int j = 0; j < kProducts; ++j) {
      const uint2 upper = Words::operands(low, kProducts * piece + j, low_zero);
      const uint2 lower = Words::operands(high, kProducts * piece + j, high_zero);
      const std::uint32_t codes[4] = {upper.x, lower.x, upper.y, lower.y};
      if constexpr (kIntegers) {
        multiply_int8(sum, codes, word_of(x, 2 * j), word_of(x, 2 * j + 1));
      } else {
        multiply_bf16(sum, codes, word_of(x, 2 * j), word_of(x, 2 * j + 1));
      }
    }
  }

  // total = this warp's share of two tiles' products
  __device__ __forceinline__ void run() {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) total[b][i] = 0;
    }
    const int whole = args.k / Words::kChunk;
    int chunk = warp;
    for (; chunk < whole; chunk += warps) {
      wait_for_stage();
      multiply<false>(chunk, ring + stage * kTiles);
      end_stage();
    }
    if (chunk < chunks) {
      wait_for_stage();
      multiply<true>(chunk, ring + stage * kTiles);
      end_stage();
    }
  }

  __device__ __forceinline__ void end_stage() {
    if constexpr (kGroups) __syncwarp();  // all lanes have read the scales that are now replaced
    copy_next(stage);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  __device__ __forceinline__ static void wait_for_stage() {
    wait_for_copy_groups<kStages - 1>();
    if constexpr (kGroups) __syncwarp();  // other lanes' copies, too
  }
};

// x goes to shared memory, prepared where it is not yet.
template <typename XElement>
__device__ __forceinline__ void stage_rows(const LinearArguments& args, char* staged, int stride,
                                           InputScratch<kTokenBlock>& scratch) {
  if (args.prepares) {
    prepare_rows(args.in, scratch, [&](int row, int col, const float(&values)[kPiece]) {
      char* target = staged + row * stride + col * static_cast<int>(sizeof(XElement));
      if constexpr (sizeof(XElement) == 1) {
#pragma unroll
        for (int i = 0; i < kPiece; ++i) target[i] = static_cast<signed char>(values[i]);
      } else {
        *reinterpret_cast<uint4*>(target) =
            make_uint4(pack_bf16x2(values[0], values[1]), pack_bf16x2(values[2], values[3]),
                       pack_bf16x2(values[4], values[5]), pack_bf16x2(values[6], values[7]));
      }
    });
  } else {
    const int pieces = (args.k * static_cast<int>(sizeof(XElement)) + 15) / 16;
    for (int i = threadIdx.x; i < args.m * pieces; i += blockDim.x) {
      const int row = i / pieces, at = i % pieces * 16;
      *reinterpret_cast<uint4*>(staged + row * stride + at) =
          *reinterpret_cast<const uint4*>(args.x + row * args.x_stride + at);
    }
  }
  __syncthreads();
}

// The outputs of two tiles: thread i finishes the element i, i + threads, ... of [kTiles, tokens, 8 rows]. What it needs for
// that besides the sums is read while they are made.
template <int kBlocks>
struct PairOutputs {
  static constexpr int kOutputs = kBlocks * kTokenBlock * kTileRows;  // of a tile
  static constexpr bool kReadsResidual = kBlocks == 1;                // a block has at least as many threads as outputs
  static_assert(kTiles * kOutputs <= 128 || !kReadsResidual, "a thread has one output");

  const LinearArguments& args;
  int first, second;  // this thread's rows of W
  RowTerms first_terms, second_terms;
  float residual = 0.0f;

  template <typename Warp>
  __device__ PairOutputs(const Warp& state, int pair)
      : args(state.args),
        first(state.tile(pair, 0) * kTileRows + static_cast<int>(threadIdx.x) % kTileRows),
        second(state.tile(pair, 1) * kTileRows + static_cast<int>(threadIdx.x) % kTileRows),
        first_terms(args, min(first, args.n - 1)),
        second_terms(args, min(second, args.n - 1)) {
    const int at = threadIdx.x, m = token(at), n = row(at);
    if (kReadsResidual && !args.silu_mul && at < kTiles * kOutputs && m < args.m && n < args.n) {
      residual = load_residual(args, m, n);
    }
  }
  __device__ __forceinline__ static int token(int at) { return at % kOutputs / kTileRows; }
  __device__ __forceinline__ int row(int at) const { return at < kOutputs ? first : second; }

  // sum_of(at): of the element `at`; x_scale(m): of token m.
  template <class Sums, class Scales>
  __device__ __forceinline__ void store(Sums sum_of, Scales x_scale) const {
    if (args.silu_mul) {
      for (int at = threadIdx.x; at < kOutputs && token(at) < args.m; at += blockDim.x) {
        const int m = token(at);
        const float gate = first_terms.value(sum_of(at), x_scale(m)),
                    up = second_terms.value(sum_of(at + kOutputs), x_scale(m));
        store_result(args, m, first, silu_product(round_bf16(gate), round_bf16(up)));
      }
      return;
    }
    // the last tile may be there twice
    const int tiles = first == second ? 1 : kTiles;
    for (int at = threadIdx.x; at < tiles * kOutputs; at += blockDim.x) {
      const int m = token(at), n = row(at);
      if (m >= args.m || n >= args.n) continue;
      const float sum = sum_of(at);
      const float value = at < kOutputs ? first_terms.value(sum, x_scale(m)) : second_terms.value(sum, x_scale(m));
      store_result(args, m, n, value, kReadsResidual ? residual : load_residual(args, m, n));
    }
  }
};

// Shared memory: the rings of the warps, then their sums where kStaged, then the rows of x, staged_stride bytes each.
template <typename Words, bool kGroups, int kBlocks, bool kStaged>
__global__ void __launch_bounds__(kMaxThreads) linear_decode(const LinearArguments args, int staged_stride) {
  __shared__ InputScratch<kTokenBlock> scratch;
  using Warp = DecodeWarp<Words, kGroups, kBlocks>;
  using Sum = typename Warp::Sum;
  constexpr int kTokens = kBlocks * kTokenBlock, kOutputs = kTokens * kTileRows;  // of a tile
  const bool scaled_here = args.prepares && args.in.by_token;
  const auto x_scale = [&](int m) { return scaled_here ? scratch.step[m] : args.x_scales ? args.x_scales[m] : 1.0f; };
  Warp state(args, launch_memory<typename Warp::Slot>());
  const int ring_bytes = state.warps * (kStages * kTiles * static_cast<int>(sizeof(typename Warp::Slot)));
  // the weights do not depend on earlier kernels: their first copies are under way before x is there
  state.begin();
  wait_for_earlier_kernels();
  // not before: kernels that wait would take the room of those that work
  let_next_kernel_begin();
  // without rows of x a block has one pair of tiles, and the sums take the ring's place
  auto* partial = reinterpret_cast<Sum*>(launch_memory<char>() + (kStaged ? ring_bytes : 0));
  if constexpr (kStaged) {
    char* staged =
        launch_memory<char>() + ring_bytes + state.warps * (kTiles * kOutputs * static_cast<int>(sizeof(Sum)));
    stage_rows<typename Warp::XElement>(args, staged, staged_stride, scratch);
    state.read_from(staged, staged_stride);
  } else {
    state.read_from(args.x, args.x_stride);
  }
  for (int pair = blockIdx.x; pair < state.pairs; pair += gridDim.x) {
    const PairOutputs<kBlocks> outputs(state, pair);
    state.run();
    if constexpr (!kStaged) wait_for_copy_groups<0>();
    __syncthreads();  // nobody reads the sums of the pair before, or the ring, any more
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = b * kTokenBlock + 2 * state.part + i % 2;
        partial[((state.warp * kTiles + i / 2) * kTokens + token) * kTileRows + state.row] = state.total[b][i];
      }
    }
    __syncthreads();
    outputs.store(
        [&](int at) {
          Sum sum = partial[at];
#pragma unroll 4
          for (int w = 1; w < state.warps; ++w) sum += partial[w * kTiles * kOutputs + at];
          return static_cast<float>(sum);
        },
        x_scale);
  }
}

// Blocks that share `pairs` pieces of work evenly, as many at once as the device has room for.
int blocks_at_once(int pairs, int warps, std::size_t shared_bytes) {
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

template <typename Words, bool kGroups, int kBlocks, bool kStaged>
void start_blocks(const LinearArguments& arguments, int warps, const Launch& launch) {
  using Warp = DecodeWarp<Words, kGroups, kBlocks>;
  constexpr std::size_t kRing = kStages * kTiles * sizeof(typename Warp::Slot);
  constexpr std::size_t kSums = kTiles * kBlocks * kTokenBlock * kTileRows * sizeof(float);
  static_assert(kStaged || kRing >= kSums, "the sums take the ring's place");
  const int stride = staged_stride(arguments.k * static_cast<int>(sizeof(typename Warp::XElement)));
  const std::size_t a_warp = kRing + (kStaged ? kSums : 0);
  const std::size_t bytes = static_cast<std::size_t>(warps) * a_warp +
                            (kStaged ? static_cast<std::size_t>(arguments.m) * static_cast<std::size_t>(stride) : 0);
  const auto kernel = linear_decode<Words, kGroups, kBlocks, kStaged>;
  allow_shared_memory(kernel, kMaxThreads / 32 * a_warp + (kStaged ? kMostStagedBytes : 0), "cuda linear");
  const int pairs = (arguments.n + kTiles * kTileRows - 1) / (kTiles * kTileRows);
  const int blocks = kStaged ? blocks_at_once(pairs, warps, bytes) : pairs;
  start_kernel(launch, "cuda linear", kernel, dim3(static_cast<unsigned>(blocks)),
               dim3(static_cast<unsigned>(32 * warps)), bytes, arguments, stride);
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
      return Int4Words::kChunk;
    default:
      return Int8Words::kChunk;
  }
}

void start_linear_decode(const LinearArguments& arguments, int warps, const Launch& launch) {
  switch (arguments.code_type) {
    case CodeType::kBF16:
      return start<Bf16Words>(arguments, warps, launch);
    case CodeType::kE4M3:
      return start<E4m3Words>(arguments, warps, launch);
    case CodeType::kInt8:
      return arguments.integers ? start<Int8Integers>(arguments, warps, launch)
                                : start<Int8Words>(arguments, warps, launch);
    case CodeType::kInt4:
      return arguments.group_scales ? start<Int4Words, true>(arguments, warps, launch)
                                    : start<Int4Words>(arguments, warps, launch);
  }
}

}  // namespace halftone::cuda
