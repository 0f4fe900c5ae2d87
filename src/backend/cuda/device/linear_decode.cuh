#pragma once
// What a warp and a block do of a product for few tokens, for the kernel of one product and for that of many.
//
// A block takes two tiles of 8 rows of W at a time, and all of K. Its warps take chunks of K in turn: warp w the chunks w,
// w + warps, ... A lane copies 16 bytes of a row at a time to a ring of its own in shared memory, some stages ahead of their
// use, so that much of the weight is under way whatever the registers hold. The matrix units multiply them with kBlocks
// times eight rows of x; what they make of rows that are not there is left out. So the order of summation does not depend on
// M at all: within a warp by chunks, ascending; then over the warps, ascending.

#include <type_traits>

#include "backend/cuda/device/code_words.cuh"
#include "backend/cuda/device/input_rows.cuh"
#include "backend/cuda/device/linear_result.cuh"

namespace halftone::cuda {

constexpr std::uint32_t kNoZero = 0x4308;  // bf16(136)
constexpr int kTiles = 2;

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

// The tiles `i` of pair `pair` of a product: neighbours, or a tile of the gates and its tile of the values.
__device__ __forceinline__ int tile_of(const LinearArguments& args, int pair, int i) {
  const int tiles = (args.n + kTileRows - 1) / kTileRows;
  return args.silu_mul ? pair + i * (tiles / 2) : min(pair * kTiles + i, tiles - 1);
}
__device__ __forceinline__ int pairs_of(const LinearArguments& args) {
  return (args.n + kTiles * kTileRows - 1) / (kTiles * kTileRows);
}

// Where a weight's codes, scales and zeros lie.
struct WeightPointers {
  const char* codes;
  const void* group_scales;
  const std::uint16_t* group_zeros;
};

// What a warp copies: of the pairs first, first + step, ... the chunks warp, warp + warps, ...
template <typename Words, bool kGroups>
struct ChunkCopies {
  static constexpr bool kTiled = std::is_same_v<Words, Int4Words>;
  using Slot = ChunkSlot<kGroups>;

  const LinearArguments* args;
  WeightPointers weight;
  int warp, warps, pairs, chunks, step;
  // the next copy: a chunk of two tiles, where they lie, and where their scales and zeros lie that this lane copies
  int pair, chunk;
  const char* codes[kTiles];
  const uint4* group[kTiles];
  int group_step;  // from chunk to chunk; 0: another lane's

  // args: of the product, but for what `pointers` has.
  __device__ __forceinline__ void begin(const LinearArguments& product, const WeightPointers& pointers, int own_warp,
                                        int all_warps, int first, int pair_step) {
    args = &product;
    weight = pointers;
    warp = own_warp;
    warps = all_warps;
    step = pair_step;
    pairs = pairs_of(product);
    chunks = (product.k + Words::kChunk - 1) / Words::kChunk;
    pair = warp < chunks ? first : pairs;
    chunk = warp;
    group_step = 0;
    if constexpr (kGroups) {
      const int lane = threadIdx.x % 32;
      if (lane < scale_pieces()) group_step = scale_pieces();
      if (lane == 2 && weight.group_zeros) group_step = 1;
    }
    if (pair < pairs) point_at();
  }

  // Starts the copies of the next chunk, if there is one. What is copied is there: tiles are padded to whole chunks, rows to
  // 16 bytes.
  __device__ __forceinline__ void copy_next(Slot* slots) {
    if (pair >= pairs) return;
    const int lane = threadIdx.x % 32;
    const bool there = kTiled || chunk * Words::kChunk + Words::offset(lane % 4, 0) < args->k;
    const std::int64_t offset = static_cast<std::int64_t>(chunk) * Words::kStep;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      copy_async(&slots[i].codes[lane], there ? codes[i] + offset : codes[i], there);
      if constexpr (kGroups) {
        if (group_step > 0) {
          copy_async(reinterpret_cast<uint4*>(&slots[i]) + 32 + lane, group[i] + chunk * group_step, true);
        }
      }
    }
    chunk += warps;
    if (chunk >= chunks) {
      chunk = warp;
      pair += step;
      if (pair < pairs) point_at();
    }
  }

 private:
  // Pieces of 16 bytes that hold the scales of a group of a tile.
  __device__ __forceinline__ int scale_pieces() const { return args->group_scale_type == ScaleType::kF32 ? 2 : 1; }

  __device__ __forceinline__ void point_at() {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int at = tile_of(*args, pair, i);
      codes[i] = kTiled ? weight.codes + at * args->row_bytes + lane * 16
                        : weight.codes + min(at * kTileRows + lane / 4, args->n - 1) * args->row_bytes + lane % 4 * 16;
      if constexpr (kGroups) {
        const auto* source = reinterpret_cast<const uint4*>(lane == 2 ? weight.group_zeros : weight.group_scales);
        group[i] = source + static_cast<std::int64_t>(at) * chunks * group_step + (lane == 2 ? 0 : lane);
      }
    }
  }
};

template <typename Sum, int kBlocks>
__device__ __forceinline__ void clear_sums(Sum (&total)[kBlocks][4]) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) total[b][i] = 0;
  }
}

// What the lanes of a warp summed, lane 4 row + part, as [kTiles, tokens, 8 rows] from `sums` on.
template <typename Sum, int kBlocks>
__device__ __forceinline__ void store_sums(const Sum (&total)[kBlocks][4], int row, int part, Sum* sums) {
  constexpr int kTokens = kBlocks * kTokenBlock;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = b * kTokenBlock + 2 * part + i % 2;
      sums[(i / 2 * kTokens + token) * kTileRows + row] = total[b][i];
    }
  }
}

// What a warp multiplies.  kBlocks: of eight tokens.
template <typename Words, bool kGroups, int kBlocks>
struct ChunkProducts {
  // INT8 products sum exactly in integers
  static constexpr bool kIntegers = std::is_same_v<Words, Int8Integers>;
  using Sum = std::conditional_t<kIntegers, std::int32_t, float>;
  using XElement = std::conditional_t<kIntegers, std::uint8_t, std::uint16_t>;
  using Slot = ChunkSlot<kGroups>;

  const LinearArguments& args;
  const int lane, row, part;  // of this lane: lane / 4 and its rest
  const char* x[kBlocks];     // this lane's tokens, and its part
  Sum total[kBlocks][4];

  // x: [M] rows, `stride` bytes from one to the next. Tokens that are not there are multiplied as others are, and left out.
  __device__ __forceinline__ ChunkProducts(const LinearArguments& arguments, const char* rows, std::int64_t stride)
      : args(arguments), lane(threadIdx.x % 32), row(lane / 4), part(lane % 4) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      x[b] = rows + min(b * kTokenBlock + row, args.m - 1) * stride +
             Words::offset(part, 0) * static_cast<int>(sizeof(XElement));
    }
  }

  // total = the sum over the chunks warp, warp + warps, ...  take(): the slots of the next one, give_back(): they were read.
  template <class Take, class GiveBack>
  __device__ __forceinline__ void run(int warp, int warps, Take take, GiveBack give_back) {
    clear_sums(total);
    const int whole = args.k / Words::kChunk, chunks = (args.k + Words::kChunk - 1) / Words::kChunk;
    int chunk = warp;
    for (; chunk < whole; chunk += warps) {
      multiply<false>(chunk, take());
      give_back();
    }
    if (chunk < chunks) {
      multiply<true>(chunk, take());
      give_back();
    }
  }

 private:
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
};

// A warp's ring in shared memory and what fills it.  Copies: copy_next(slots), which may have nothing left to copy.
template <int kStages, class Copies>
struct WarpRing {
  using Slot = typename Copies::Slot;
  static constexpr int kSlots = kStages * kTiles;

  Slot* slots;  // [kStages, kTiles]
  Copies copies;
  int stage = 0;

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int s = 0; s < kStages; ++s) copy_next(s);
  }
  // The slots of the oldest copies, when they are there.
  __device__ __forceinline__ const Slot* take() const {
    wait_for_copy_groups<kStages - 1>();
    if constexpr (sizeof(Slot) > sizeof(ChunkSlot<false>)) __syncwarp();  // other lanes' copies, too
    return slots + stage * kTiles;
  }
  __device__ __forceinline__ void give_back() {
    // all lanes have read the scales that are now replaced
    if constexpr (sizeof(Slot) > sizeof(ChunkSlot<false>)) __syncwarp();
    copy_next(stage);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

 private:
  __device__ __forceinline__ void copy_next(int into) {
    copies.copy_next(slots + into * kTiles);
    end_copy_group();
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

// The sum over the warps of what each has at `sums`, `stride` elements from one to the next.
template <typename Sum>
__device__ __forceinline__ float sum_of_warps(const Sum* sums, int stride, int warps) {
  Sum sum = sums[0];
#pragma unroll 4
  for (int w = 1; w < warps; ++w) sum += sums[w * stride];
  return static_cast<float>(sum);
}

// The outputs of two tiles: thread i finishes the element i, i + threads, ... of [kTiles, tokens, 8 rows]. What it needs for
// that besides the sums is read while they are made.
template <int kBlocks>
struct PairOutputs {
  static constexpr int kOutputs = kBlocks * kTokenBlock * kTileRows;  // of a tile
  static constexpr bool kReadsResidual = kBlocks == 1;                // a block has at least as many threads as outputs
  static_assert(kTiles * kOutputs <= 128 || !kReadsResidual, "a thread has one output");

  const LinearArguments& args;
  const int thread, threads;  // of those that share the outputs
  int first, second;          // this thread's rows of W
  RowTerms first_terms, second_terms;
  float residual = 0.0f;

  __device__ __forceinline__ PairOutputs(const LinearArguments& arguments, int pair, int own_thread, int all_threads)
      : args(arguments),
        thread(own_thread),
        threads(all_threads),
        first(tile_of(arguments, pair, 0) * kTileRows + own_thread % kTileRows),
        second(tile_of(arguments, pair, 1) * kTileRows + own_thread % kTileRows),
        first_terms(args, min(first, args.n - 1)),
        second_terms(args, min(second, args.n - 1)) {
    const int at = thread, m = token(at), n = row(at);
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
      for (int at = thread; at < kOutputs && token(at) < args.m; at += threads) {
        const int m = token(at);
        const float gate = first_terms.value(sum_of(at), x_scale(m)),
                    up = second_terms.value(sum_of(at + kOutputs), x_scale(m));
        store_result(args, m, first, silu_product(round_bf16(gate), round_bf16(up)));
      }
      return;
    }
    // the last tile may be there twice
    const int tiles = first == second ? 1 : kTiles;
    for (int at = thread; at < tiles * kOutputs; at += threads) {
      const int m = token(at), n = row(at);
      if (m >= args.m || n >= args.n) continue;
      const float sum = sum_of(at);
      const float value = at < kOutputs ? first_terms.value(sum, x_scale(m)) : second_terms.value(sum, x_scale(m));
      store_result(args, m, n, value, kReadsResidual ? residual : load_residual(args, m, n));
    }
  }
};

// What a block does from its first copies on, whose ring is ready to begin. Shared memory: the rings of the warps, then their
// sums where kStaged, then the rows of x, staged_stride bytes each.
template <class Products, int kBlocks, bool kStaged, class Ring>
__device__ __forceinline__ void multiply_pairs(const LinearArguments& args, int staged_stride,
                                               InputScratch<kTokenBlock>& scratch, Ring& ring) {
  using Sum = typename Products::Sum;
  constexpr int kOutputs = kTiles * kBlocks * kTokenBlock * kTileRows;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const bool scaled_here = args.prepares && args.in.by_token;
  const auto x_scale = [&](int m) { return scaled_here ? scratch.step[m] : args.x_scales ? args.x_scales[m] : 1.0f; };
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
    store_sums(products.total, products.row, products.part, partial + warp * kOutputs);
    __syncthreads();
    outputs.store([&](int at) { return sum_of_warps(partial + at, kOutputs, warps); }, x_scale);
  }
}

}  // namespace halftone::cuda
