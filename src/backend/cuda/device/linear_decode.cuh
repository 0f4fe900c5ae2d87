#pragma once
// What a block does of a product for up to eight tokens whose rows of x fit in its shared memory.
//
// A block is some teams of warps. A team takes pairs of tiles in turn, and all of K: its warp w the chunks w, w + warps, ...
// Copies go to a ring of the warp's own in shared memory, some stages ahead of their use, so that much of the weight is under
// way whatever the registers hold, and run on into the team's next pair. What the matrix units make of rows of x that are not
// there is left out.

#include "backend/cuda/device/input_rows.cuh"
#include "backend/cuda/device/pair_copies.cuh"

namespace halftone::cuda {

// A warp's ring in shared memory, [kStages, kTiles].
template <class Format, int kStages>
struct WarpRing {
  using Slot = typename Format::Slot;

  PairCopies<Format> copies;
  Slot* slots;
  int at = 0;  // the oldest copies, in bytes

  // The first copies, and the others. x is asked for between the two, for memory answers in order. Weights in bf16 take most
  // of the time with their bytes: all their copies are first ones.
  __device__ __forceinline__ void begin() { fill<0, kFirst>(); }
  __device__ __forceinline__ void go_on() { fill<kFirst, kStages>(); }
  // The slots of the oldest copies, when they are there.
  __device__ __forceinline__ const Slot* take() const {
    wait_for_copy_groups<kStages - 1>();
    if constexpr (Format::kShares) __syncwarp();
    return next();
  }
  __device__ __forceinline__ void give_back() {
    if constexpr (Format::kShares) __syncwarp();
    copy_next(next());
    at = held(at == (kStages - 1) * kBytes ? 0 : at + kBytes);
  }

 private:
  static constexpr int kBytes = kTiles * static_cast<int>(sizeof(Slot));
  static constexpr int kFirst = std::is_same_v<typename Format::Words, Bf16Words> ? kStages : kStages / 2;

  template <int kFrom, int kTo>
  __device__ __forceinline__ void fill() {
#pragma unroll 1
    for (int s = kFrom; s < kTo; ++s) copy_next(slots + s * kTiles);
  }
  __device__ __forceinline__ Slot* next() const { return reinterpret_cast<Slot*>(reinterpret_cast<char*>(slots) + at); }
  __device__ __forceinline__ void copy_next(Slot* into) {
    copies.copy_next(into);
    end_copy_group();
  }
};

// The first `valid` elements of 16 bytes, and zeros behind them.
template <typename Element>
__device__ __forceinline__ uint4 keep_first(const uint4& v, int valid) {
  constexpr int kInWord = 4 / sizeof(Element);
  if (valid >= 4 * kInWord) return v;
  const auto keep = [&](int word) {
    const int count = valid - word * kInWord;
    return count >= kInWord ? 0xffffffffu
           : count <= 0     ? 0u
                            : (1u << (count * 8 * static_cast<int>(sizeof(Element)))) - 1;
  };
  return make_uint4(v.x & keep(0), v.y & keep(1), v.z & keep(2), v.w & keep(3));
}

// Puts eight elements of a row to shared memory.
template <class Format>
struct StagedStore {
  char* staged;
  int stride;

  __device__ __forceinline__ void operator()(int row, int col, const float (&values)[kPiece]) const {
    constexpr int kSize = static_cast<int>(sizeof(typename Format::XElement));
    char* target = staged + row * stride + col * kSize;
    if constexpr (multiplies_f16<typename Format::Words>) {
      *reinterpret_cast<uint2*>(target) = e4m3_piece(values);
    } else if constexpr (kSize == 1) {
      *reinterpret_cast<uint2*>(target) = int8_piece(values);
    } else {
      *reinterpret_cast<uint4*>(target) = pack_bf16(values);
    }
  }
};

// Rows of x that are multiplied as they are, `pieces` pieces each, zeros behind their end. They begin at multiples of 16 bytes:
// what lies behind the last element up to such a multiple is padding that may be read.
template <class Format, class Place, class Meanwhile>
__device__ __forceinline__ void copy_rows(const LinearArguments& args, int pieces, Place piece_of,
                                          Meanwhile meanwhile) {
  using XElement = typename Format::XElement;
  constexpr int kInPiece = kPieceBytes / static_cast<int>(sizeof(XElement)), kAtOnce = 4;  // loads under way
  const int step = static_cast<int>(blockDim.x), all = args.m * pieces, last = (args.k - 1) / kInPiece;
  // rows are few: this takes less than a division
  const auto row_of = [&](int i) {
    int row = 0;
    for (; i >= pieces; i -= pieces) ++row;
    return row;
  };
#pragma unroll 1
  for (int first = 0; first < all; first += kAtOnce * step) {
    uint4 loaded[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = min(first + static_cast<int>(threadIdx.x) + j * step, all - 1), row = row_of(i);
      const int at = min(i - row * pieces, last);
      loaded[j] = *reinterpret_cast<const uint4*>(args.x + row * args.x_stride + at * kPieceBytes);
    }
    if (first == 0) meanwhile();
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = first + static_cast<int>(threadIdx.x) + j * step;
      if (i >= all) break;
      const int row = row_of(i), at = i - row * pieces;
      *piece_of(row, at) = keep_first<XElement>(loaded[j], args.k - at * kInPiece);
    }
  }
}

// x goes to shared memory, prepared where it is not yet, with zeros behind its end: chunks read beyond it. meanwhile(): done
// while the rows are on their way.
template <class Format, class Meanwhile>
__device__ __forceinline__ void stage_rows(const LinearArguments& args, char* staged, int stride,
                                           InputScratch<kTokenBlock>& scratch, Meanwhile meanwhile) {
  using XElement = typename Format::XElement;
  constexpr bool kHalves = multiplies_f16<typename Format::Words>;
  constexpr int kSize = static_cast<int>(sizeof(XElement)), kInPiece = kPieceBytes / kSize;
  const int pieces = stride / kPieceBytes;
  const auto piece_of = [&](int row, int at) { return reinterpret_cast<uint4*>(staged + row * stride) + at; };
  if (args.prepares) {
    const int whole = args.k / kInPiece, behind = pieces - whole;
    for (int row = 0; row < args.m; ++row) {
      for (int i = threadIdx.x; i < behind; i += blockDim.x) *piece_of(row, whole + i) = make_uint4(0, 0, 0, 0);
    }
    if (args.k % kInPiece) __syncthreads();  // the last piece has elements of x, too
    InputRows in = args.in;
    if constexpr (kHalves) in.codes = InputCodes::kE4M3;
    constexpr InputCodes kCodes = kHalves ? InputCodes::kE4M3 : kSize == 1 ? InputCodes::kInt8 : InputCodes::kNone;
    prepare_usual_rows<kCodes>(in, scratch, StagedStore<Format>{staged, stride}, meanwhile);
  } else {
    copy_rows<Format>(args, pieces, piece_of, meanwhile);
  }
  __syncthreads();
}

// The outputs of two tiles: a team's thread i finishes element i of [kTiles, 8 tokens, 8 rows], so a team has four warps or
// more. What it needs for that besides the sums is read while they are made.
struct PairOutputs {
  static constexpr int kOutputs = kTokenBlock * kTileRows;  // of a tile

  const LinearArguments& args;
  const int at;       // the element
  bool mine = false;  // whether there is such an element
  int row = 0;        // its row of W
  RowTerms terms, up_terms;
  std::uint16_t residual = 0;

  __device__ __forceinline__ PairOutputs(const LinearArguments& arguments, int pair, int element)
      : args(arguments), at(element) {
    const int m = token(at);
    // whole warps need not ask further
    if (at >= kTiles * kOutputs || m >= args.m) return;
    const int low = tile_of(args, pair, 0), high = tile_of(args, pair, 1), in_tile = at % kTileRows;
    // the last tile may be there twice
    const bool there = at < kOutputs || (!args.silu_mul && low != high);
    row = (at < kOutputs ? low : high) * kTileRows + in_tile;
    mine = there && row < args.n;
    if (!mine) return;
    terms = RowTerms(args, row);
    if (args.silu_mul) {
      up_terms = RowTerms(args, high * kTileRows + in_tile);
    } else {
      residual = load_residual(args, m, row);
    }
  }
  __device__ __forceinline__ static int token(int at) { return at % kOutputs / kTileRows; }

  // sum_of(at): of the element `at`; x_scale(m): of token m.
  template <class Sums, class Scales>
  __device__ __forceinline__ void store(Sums sum_of, Scales x_scale) const {
    if (!mine) return;
    const int m = token(at);
    const float value = terms.value(sum_of(at), x_scale(m));
    if (args.silu_mul) {
      const float up = up_terms.value(sum_of(at + kOutputs), x_scale(m));
      store_result(args, m, row, silu_product(round_bf16(value), round_bf16(up)));
    } else {
      store_result(args, m, row, value, residual);
    }
  }
};

// The sum over kWarps warps of what each has at `sums`, `stride` elements from one to the next.
template <int kWarps, typename Sum>
__device__ __forceinline__ float sum_of_warps(const Sum* sums, int stride) {
  Sum sum = sum_of_four(sums, stride);
#pragma unroll
  for (int w = 4; w < kWarps; w += 4) sum += sum_of_four(sums + w * stride, stride);
  return static_cast<float>(sum);
}
// warps: 4, 8 or 16
template <typename Sum>
__device__ __forceinline__ float sum_of_warps(const Sum* sums, int stride, int warps) {
  return warps == 4   ? sum_of_warps<4>(sums, stride)
         : warps == 8 ? sum_of_warps<8>(sums, stride)
                      : sum_of_warps<16>(sums, stride);
}

// Shared memory: the rings of the warps, then their sums, then the rows of x, staged_stride bytes each.
template <class Format, int kStages>
__device__ __forceinline__ void multiply_pairs(const LinearArguments& args, int team_shift, int staged_stride,
                                               InputScratch<kTokenBlock>& scratch) {
  using Words = typename Format::Words;
  using Sum = typename Format::Sum;
  using XElement = typename Format::XElement;
  using Ring = WarpRing<Format, kStages>;
  constexpr int kOutputs = kTiles * PairOutputs::kOutputs, kSlots = kStages * kTiles;  // of a warp
  constexpr int kChunkBytes = Words::kChunk * static_cast<int>(sizeof(XElement));
  const Team team(team_shift);
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, part = threadIdx.x % 4;
  Ring ring{PairCopies<Format>(args, team), launch_memory<typename Format::Slot>() + warp * kSlots};
  auto* partial = reinterpret_cast<Sum*>(launch_memory<typename Format::Slot>() + warps * kSlots);
  char* staged = reinterpret_cast<char*>(partial + warps * kOutputs);
  const bool scaled_here = args.prepares && args.in.by_token;
  const auto x_scale = [&](int m) { return scaled_here ? scratch.step[m] : args.x_scales ? args.x_scales[m] : 1.0f; };
  // the weights do not depend on earlier kernels: their first copies are under way before x is there
  ring.begin();
  wait_for_earlier_kernels();
  // not before: kernels that wait would take the room of those that work
  let_next_kernel_begin();
  stage_rows<Format>(args, staged, staged_stride, scratch, [&] { ring.go_on(); });
  const int row = min(static_cast<int>(threadIdx.x) % 32 / 4, args.m - 1), pairs = pairs_of(args);
  const int chunks = chunks_of<Format>(args);
  Sum* team_sums = partial + team.number * team.warps * kOutputs;
  const typename Format::Reader reader(args);
  for (int pair = team.first_pair; pair < pairs; pair += team.step) {
    const PairOutputs outputs(args, pair, team.thread());
    Sum total[1][4];
    clear_sums(total);
    const char* x = staged + row * staged_stride + team.warp * kChunkBytes;
    for (int chunk = team.warp; chunk < chunks; chunk += team.warps, x += team.warps * kChunkBytes) {
      const auto* slots = ring.take();
      Format::multiply(
          reader, slots, chunk,
          [&](int, int piece) {
            return *reinterpret_cast<const uint4*>(x + Words::offset(part, piece) * static_cast<int>(sizeof(XElement)));
          },
          total);
      ring.give_back();
    }
    team.wait();  // nobody reads the sums of the pair before any more
    store_sums(total, team_sums + team.warp * kOutputs);
    team.wait();
    outputs.store([&](int at) { return sum_of_warps(team_sums + at, kOutputs, team.warps); }, x_scale);
  }
}

}  // namespace halftone::cuda
