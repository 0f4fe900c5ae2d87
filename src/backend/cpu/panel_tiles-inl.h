// Per-target: many rows of x against panels. A block of K of a few panels is decoded once and stays in the first-level
// cache while all tiles of x pass over it; a tile's sums live in registers. Sums that outlast a block are reloaded,
// which is exact.
#if defined(HALFTONE_BACKEND_CPU_PANEL_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_PANEL_TILES_INL_H_
#undef HALFTONE_BACKEND_CPU_PANEL_TILES_INL_H_
#else
#define HALFTONE_BACKEND_CPU_PANEL_TILES_INL_H_
#endif

#include <array>
#include <utility>

#include "backend/cpu/panel_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// Registers: 12 of 16 (AVX2) or 24 of 32 (AVX-512, NEON) hold sums.
#if HWY_TARGET == HWY_AVX3
constexpr int kTileRows = 8, kTilePanels = 3;
#else
constexpr int kTileRows = 6, kTilePanels = 1;
#endif
constexpr std::int64_t kBlockWords = 256;

// The operands of one block of K, for kTilePanels panels.
template <class Op>
struct BlockWeights {
  const std::uint8_t* words[kTilePanels];  // [count][16]
  std::int64_t count;
  std::int64_t group;   // words under one scale
  const float* scales;  // [groups in the block][kTilePanels][16]; null where sums outlast the block
  std::int64_t panel;   // the first one
  bool first;           // the block starts at k = 0
};

// `next`: the words of the tile that comes after this one, which the memory is asked for meanwhile: pieces of a page
// are too short for the hardware to foresee.
template <class Op, int R>
HWY_INLINE void add_products(const std::uint32_t* x, const std::uint32_t* next, std::int64_t stride,
                             const std::uint8_t* (&w)[kTilePanels], std::int64_t count,
                             Lanes<typename Op::T> (&sum)[R][kTilePanels]) {
  constexpr std::int64_t kLine = 16;  // words
  for (std::int64_t k = 0; k < count; ++k) {
    if (k % kLine == 0) {
      unroll<R>([&](auto r) HALFTONE_INLINE_LAMBDA { hwy::Prefetch(next + r * stride + k); });
    }
    Lanes<typename Op::T> operand[kTilePanels];
    unroll<kTilePanels>([&](auto p) HALFTONE_INLINE_LAMBDA {
      operand[p] = load_lanes(reinterpret_cast<const typename Op::T*>(w[p] + k * 64));
    });
    unroll<R>([&](auto r) HALFTONE_INLINE_LAMBDA {
      const auto value = Op::broadcast(x + r * stride + k);
      unroll<kTilePanels * kParts>([&](auto i) HALFTONE_INLINE_LAMBDA {
        Op::add(value, operand[i / kParts].part[i % kParts], sum[r][i / kParts].part[i % kParts]);
      });
    });
  }
  for (int p = 0; p < kTilePanels; ++p) w[p] += count * 64;
}

// One tile of R rows over one block. state: [R][kTilePanels][16] sums of Op::T, or totals in f32 where groups are
// folded.
template <class Op, int R>
HWY_NOINLINE void multiply_tile(const Panels& panels, const BlockWeights<Op>& block, const std::uint32_t* x,
                                const std::uint32_t* next, std::int64_t stride, std::uint8_t* state) {
  using T = typename Op::T;
  const std::uint8_t* w[kTilePanels];
  unroll<kTilePanels>([&](auto p) HALFTONE_INLINE_LAMBDA { w[p] = block.words[p]; });
  const auto for_sums = [](const auto& body) HALFTONE_INLINE_LAMBDA {
    unroll<R>([&](auto r) HALFTONE_INLINE_LAMBDA {
      unroll<kTilePanels>([&](auto p) HALFTONE_INLINE_LAMBDA { body(r, p, (r * kTilePanels + p) * kLaneCount); });
    });
  };
  Lanes<T> sum[R][kTilePanels];
  if (!block.scales) {
    T* saved = reinterpret_cast<T*>(state);
    for_sums([&](auto r, auto p, int at) HALFTONE_INLINE_LAMBDA {
      sum[r][p] = block.first ? Op::start(panels, std::min(block.panel + p, panels.count - 1)) : load_lanes(saved + at);
    });
    add_products<Op, R>(x, next, stride, w, block.count, sum);
    for_sums([&](auto r, auto p, int at) HALFTONE_INLINE_LAMBDA { store_lanes(sum[r][p], saved + at); });
    return;
  }
  float* totals = reinterpret_cast<float*>(state);
  const float* scales = block.scales;
  bool first = block.first;
  for (std::int64_t k = 0; k < block.count; k += block.group, scales += kTilePanels * kLaneCount, first = false) {
    for_sums([&](auto r, auto p, int) HALFTONE_INLINE_LAMBDA { sum[r][p] = set_lanes(T{0}); });
    add_products<Op, R>(x + k, next + k, stride, w, std::min(block.group, block.count - k), sum);
    for_sums([&](auto r, auto p, int at) HALFTONE_INLINE_LAMBDA {
      const auto before = first ? set_lanes(0.0f) : load_lanes(totals + at);
      store_lanes(fma_lanes(load_lanes(scales + p * kLaneCount), to_float(sum[r][p]), before), totals + at);
    });
  }
}

template <class Op, int... I>
HWY_INLINE void multiply_any_tile(std::integer_sequence<int, I...>, std::int64_t rows, const Panels& panels,
                                  const BlockWeights<Op>& block, const std::uint32_t* x, const std::uint32_t* next,
                                  std::int64_t stride, std::uint8_t* state) {
  using Run = void (*)(const Panels&, const BlockWeights<Op>&, const std::uint32_t*, const std::uint32_t*, std::int64_t,
                       std::uint8_t*);
  static constexpr Run kRuns[] = {&multiply_tile<Op, I + 1>...};
  kRuns[rows - 1](panels, block, x, next, stride, state);
}

// Memory of one thread that lasts from call to call.
struct Scratch {
  std::vector<std::uint8_t> bytes;
  std::uint8_t* reserve(std::size_t size) {
    if (bytes.size() < size + 64) bytes.resize(size + 64);
    return bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64;
  }
};

template <class Op, class Decode>
class TileProduct {
 public:
  TileProduct(const Panels& panels, const std::uint32_t* x, std::int64_t stride, const Tiling& tiling,
              std::int64_t tile_begin, std::int64_t tile_end, std::int64_t begin, std::int64_t end,
              const float* token_scales)
      : panels_(panels),
        decode_(panels),
        token_scales_(token_scales),
        x_(x),
        stride_(stride),
        tiling_(tiling),
        tile_begin_(tile_begin),
        tile_end_(tile_end),
        begin_(begin),
        end_(end),
        words_(panels.padded_cols / Op::kCols),
        group_(panels.group / Op::kCols),
        folds_(panels.groups > 1 && panels.folds_scales()),
        block_words_(folds_ ? std::max(group_, kBlockWords / group_ * group_) : kBlockWords),
        row_begin_(tiling.tile_begin(tile_begin)),
        row_count_(tiling.tile_begin(tile_end) - row_begin_),
        sets_((end - begin + kTilePanels - 1) / kTilePanels) {
    static thread_local Scratch scratch;
    const std::int64_t decoded = kTilePanels * block_words_ * 64;
    const std::int64_t scales = kTilePanels * 64 * (folds_ ? block_words_ / group_ : 0);
    words_at_ = scratch.reserve(static_cast<std::size_t>(decoded + scales + sets_ * row_count_ * kSetBytes));
    scales_at_ = reinterpret_cast<float*>(words_at_ + decoded);
    state_ = words_at_ + decoded + scales;
    std::memset(words_at_, 0, static_cast<std::size_t>(decoded + scales));
  }

  void run(float* y) {
    for (std::int64_t k = 0; k < words_; k += block_words_) {
      for (std::int64_t set = 0; set < sets_; ++set) run_block(k, set);
    }
    for (std::int64_t m = 0; m < row_count_; ++m) {
      for (std::int64_t panel = begin_; panel < end_; ++panel) {
        const std::int64_t set = (panel - begin_) / kTilePanels, p = (panel - begin_) % kTilePanels;
        const std::uint8_t* state = state_ + (set * row_count_ + m) * kSetBytes + p * 64;
        const std::int64_t row = row_begin_ + m;
        store_outputs(panels_, panel, total(state, panel), token_scales_ ? token_scales_ + row : nullptr,
                      y + row * panels_.rows);
      }
    }
  }

 private:
  static constexpr std::int64_t kSetBytes = kTilePanels * 64;

  Lanes<float> total(const std::uint8_t* state, std::int64_t panel) const {
    if (folds_) return load_lanes(reinterpret_cast<const float*>(state));
    const auto inner = to_float(load_lanes(reinterpret_cast<const typename Op::T*>(state)));
    return panels_.folds_scales() ? fma_lanes(load_scales(panels_, panel, 0), inner, set_lanes(0.0f)) : inner;
  }

  void run_block(std::int64_t k, std::int64_t set) {
    BlockWeights<Op> block;
    block.count = std::min(block_words_, words_ - k);
    block.group = group_;
    block.scales = folds_ ? scales_at_ : nullptr;
    block.panel = begin_ + set * kTilePanels;
    block.first = k == 0;
    for (int p = 0; p < kTilePanels; ++p) {
      std::uint8_t* decoded = words_at_ + p * block_words_ * 64;
      block.words[p] = block.panel + p < end_ ? prepare(k, block.count, block.panel + p, p, decoded) : decoded;
    }
    for (std::int64_t t = tile_begin_; t < tile_end_; ++t) {
      const std::int64_t row = tiling_.tile_begin(t), rows = tiling_.tile_begin(t + 1) - row;
      const std::uint32_t* x = x_ + row * stride_ + k;
      // the first set of panels meets this block of x in memory, the others in the second-level cache
      const std::uint32_t* next = set == 0 && t + 1 < tile_end_ ? x + rows * stride_ : x;
      multiply_any_tile<Op>(std::make_integer_sequence<int, kTileRows>(), rows, panels_, block, x, next, stride_,
                            state_ + (set * row_count_ + row - row_begin_) * kSetBytes);
    }
  }

  // The operands of `count` words of a panel from word k on, and the scales of its groups.
  const std::uint8_t* prepare(std::int64_t k, std::int64_t count, std::int64_t panel, int p, std::uint8_t* decoded) {
    if (folds_) {
      for (std::int64_t g = 0; g * group_ < count; ++g) {
        store_lanes(load_scales(panels_, panel, k / group_ + g), scales_at_ + (g * kTilePanels + p) * kLaneCount);
      }
    }
    const std::uint8_t* codes = panels_.panel(panel) + k / Decode::kWords * Decode::kBytes;
    if constexpr (Decode::kDirect) return codes;
    Shift<Decode> shift;
    for (std::int64_t i = 0; i < count; i += Decode::kWords, codes += Decode::kBytes) {
      if (kShifts<Decode> && (i == 0 || (k + i) % group_ == 0)) shift.load(panels_, panel, (k + i) / group_);
      decode_(codes, [&](int word, int part, typename Op::V w) HALFTONE_INLINE_LAMBDA {
        auto* target = reinterpret_cast<typename Op::T*>(decoded + (i + word) * 64) + part * kPartLanes;
        hn::StoreU(shift(w, part), typename Lanes<typename Op::T>::Tag(), target);
      });
    }
    return decoded;
  }

  const Panels& panels_;
  Decode decode_;
  const float* token_scales_;  // [M] or null
  const std::uint32_t* x_;
  std::int64_t stride_;
  const Tiling& tiling_;
  std::int64_t tile_begin_, tile_end_, begin_, end_;
  std::int64_t words_, group_;
  bool folds_;  // totals over groups are kept instead of sums
  std::int64_t block_words_, row_begin_, row_count_;
  std::int64_t sets_;  // of kTilePanels panels
  std::uint8_t* words_at_;
  float* scales_at_;
  std::uint8_t* state_;
};

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
