// Per-target: one to four rows of x against panels, streaming the weight once. Several panels run side by side, because
// one chain of fused multiply-adds waits for its own result.
#if defined(HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_
#undef HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_
#else
#define HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "backend/cpu/panel_arithmetic-inl.h"
#include "backend/cpu/panel_decoders-inl.h"
#include "backend/cpu/panel_products.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// y[n] = fma(total, factor, bias) for the outputs of one panel; the last panel may be cut. token_scale: s_in where it
// is no part of the factor, else null.
HWY_INLINE void store_outputs(const Panels& panels, std::int64_t panel, const Lanes<float>& total,
                              const float* token_scale, float* row) {
  const std::int64_t n = panel * kPanelRows;
  auto factor = load_lanes(static_cast<const float*>(panels.factor.raw()) + n);
  if (token_scale) {
    for (int i = 0; i < kParts; ++i) factor.part[i] = hn::Mul(hn::Set(F32(), *token_scale), factor.part[i]);
  }
  const auto bias = load_lanes(static_cast<const float*>(panels.bias.raw()) + n);
  const auto y = fma_lanes(total, factor, bias);
  if (n + kPanelRows <= panels.rows) {
    store_lanes(y, row + n);
    return;
  }
  float lanes[kLaneCount];
  store_lanes(y, lanes);
  for (std::int64_t i = n; i < panels.rows; ++i) row[i] = lanes[i - n];
}

// How far ahead of a panel's codes the memory is asked for them, in bytes: longer than its latency, while all panels of
// one pass stay in the first-level cache.
constexpr std::int64_t kAhead = 1024;

// Where the codes of P panels are, and which bytes come into the cache while they are used.
template <int P>
struct CodeStreams {
  const std::uint8_t* codes[P];
  std::int64_t near_end;  // words from here on look beyond the panel's end
  std::int64_t far;       // what lies so far ahead then: the panels that come next, or nothing new
};

// The sums of R rows and P panels over the words [begin, end) of one group.
template <class Op, class Decode, int R, int P>
HWY_INLINE void add_group(const Decode& decode, const std::uint32_t* x, std::int64_t stride, std::int64_t begin,
                          std::int64_t end, const Shift<Decode> (&shift)[P], CodeStreams<P>& streams,
                          Lanes<typename Op::T> (&sum)[R][P]) {
  // one cache line of each panel at a time; several rows have loops long enough without
  constexpr int kSteps = R == 1 ? std::max(1, 64 / Decode::kBytes) : 1;
  const auto step = [&](std::int64_t k, int p, int s) HALFTONE_INLINE_LAMBDA {
    decode(streams.codes[p] + s * Decode::kBytes, [&](int word, int part, typename Op::V code) HALFTONE_INLINE_LAMBDA {
      const auto w = shift[p](code, part);
      unroll<R>([&](auto r) HALFTONE_INLINE_LAMBDA {
        Op::add(Op::broadcast(x + r * stride + k + s * Decode::kWords + word), w, sum[r][p].part[part]);
      });
    });
  };
  std::int64_t k = begin;
  while (k + kSteps * Decode::kWords <= end) {
    const bool near = k < streams.near_end;
    const std::int64_t stop = near ? std::min(end, streams.near_end) : end, ahead = near ? kAhead : streams.far;
    do {
      unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA { hwy::Prefetch(streams.codes[p] + ahead); });
      unroll<kSteps>([&](auto s)
                         HALFTONE_INLINE_LAMBDA { unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA { step(k, p, s); }); });
      unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA { streams.codes[p] += kSteps * Decode::kBytes; });
      k += kSteps * Decode::kWords;
    } while (k + kSteps * Decode::kWords <= stop);
  }
  for (; k < end; k += Decode::kWords) {
    unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA {
      step(k, p, 0);
      streams.codes[p] += Decode::kBytes;
    });
  }
}

// R rows against P panels from `panel` on; more panels follow up to `end`.
template <class Op, class Decode, int R, int P>
HWY_INLINE void multiply_vectors(const Panels& panels, const Decode& decode, const std::uint32_t* x,
                                 std::int64_t stride, std::int64_t panel, std::int64_t end, const float* scales,
                                 float* y) {
  const std::int64_t words = panels.padded_cols / Op::kCols, group = panels.group / Op::kCols;
  CodeStreams<P> streams;
  for (int p = 0; p < P; ++p) streams.codes[p] = panels.panel(panel + p);
  streams.near_end = words - kAhead / Decode::kBytes * Decode::kWords;
  streams.far = panel + P < end ? kAhead + (P - 1) * panels.panel_bytes : 0;
  Lanes<float> total[R][P];
  Lanes<typename Op::T> sum[R][P];
  const auto for_sums = [](const auto& body) HALFTONE_INLINE_LAMBDA {
    unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA { unroll<R>([&](auto r) HALFTONE_INLINE_LAMBDA { body(r, p); }); });
  };
  for_sums([&](auto r, auto p) HALFTONE_INLINE_LAMBDA { total[r][p] = set_lanes(0.0f); });
  const bool folds = panels.folds_scales();
  const auto start = [&](auto r, auto p) HALFTONE_INLINE_LAMBDA { sum[r][p] = Op::start(panels, panel + p); };
  for_sums(start);
  for (std::int64_t g = 0; g < panels.groups; ++g) {
    if (g > 0 && !kShifts<Decode>) for_sums(start);
    Shift<Decode> shift[P];
    unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA { shift[p].load(panels, panel + p, g); });
    add_group<Op, Decode, R, P>(decode, x, stride, g * group, std::min(words, (g + 1) * group), shift, streams, sum);
    if (folds) {
      unroll<P>([&](auto p) HALFTONE_INLINE_LAMBDA {
        const Lanes<float> scale = load_scales(panels, panel + p, g);
        unroll<R>([&](auto r)
                      HALFTONE_INLINE_LAMBDA { total[r][p] = fma_lanes(scale, to_float(sum[r][p]), total[r][p]); });
      });
    } else {
      for_sums([&](auto r, auto p) HALFTONE_INLINE_LAMBDA { total[r][p] = to_float(sum[r][p]); });
    }
  }
  for_sums([&](auto r, auto p) HALFTONE_INLINE_LAMBDA {
    store_outputs(panels, panel + p, total[r][p], scales ? scales + r : nullptr, y + r * panels.rows);
  });
}

// Panels whose sums run side by side: eight chains keep two pipelines of latency four busy, and registers limit them.
template <class Decode, int R>
constexpr int panels_at_once() {
  if (HWY_TARGET == HWY_AVX3) return R == 1 ? 8 : 4;
  if (R == 1) return std::max(1, (Decode::kWords == 4 ? 6 : 8) / kParts);
  return R == 2 ? std::max(1, 4 / kParts) : 1;
}

template <class Op, class Decode, int R>
HWY_NOINLINE void multiply_vector_range(const Panels& panels, const std::uint32_t* x, std::int64_t stride,
                                        std::int64_t begin, std::int64_t end, const float* scales, float* y) {
  constexpr int P = panels_at_once<Decode, R>(), kHalf = (P + 1) / 2;
  const Decode decode(panels);
  std::int64_t panel = begin;
  const auto run = [&](auto count) HALFTONE_INLINE_LAMBDA {
    constexpr int kCount = decltype(count)::value;
    for (; panel + kCount <= end; panel += kCount) {
      multiply_vectors<Op, Decode, R, kCount>(panels, decode, x, stride, panel, end, scales, y);
    }
  };
  run(std::integral_constant<int, P>());
  if constexpr (R == 1 && kHalf > 1) run(std::integral_constant<int, kHalf>());
  if constexpr (P > 1) run(std::integral_constant<int, 1>());
}

// How `rows` rows are cut: up to four at a time; of more rows the second four find their panels in the second-level
// cache.
constexpr std::int64_t row_passes(std::int64_t rows) { return (rows + 3) / 4; }

// The panels that one pass over `rows` rows takes at once.
template <class Decode>
std::int64_t panels_of_pass(std::int64_t rows) {
  switch ((rows + row_passes(rows) - 1) / row_passes(rows)) {
    case 1:
      return panels_at_once<Decode, 1>();
    case 2:
      return panels_at_once<Decode, 2>();
    case 3:
      return panels_at_once<Decode, 3>();
    default:
      return panels_at_once<Decode, 4>();
  }
}

template <class Op, class Decode>
void multiply_rows_with(const Panels& panels, const std::uint32_t* x, std::int64_t stride, std::int64_t rows,
                        std::int64_t begin, std::int64_t end, const float* scales, float* y) {
  using Run =
      void (*)(const Panels&, const std::uint32_t*, std::int64_t, std::int64_t, std::int64_t, const float*, float*);
  static constexpr Run kRuns[] = {&multiply_vector_range<Op, Decode, 1>, &multiply_vector_range<Op, Decode, 2>,
                                  &multiply_vector_range<Op, Decode, 3>, &multiply_vector_range<Op, Decode, 4>};
  const std::int64_t passes = row_passes(rows), step = passes == 1 ? end - begin : panels_at_once<Decode, 4>();
  for (std::int64_t panel = begin; panel < end; panel += step) {
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      const std::int64_t row = rows * pass / passes, height = rows * (pass + 1) / passes - row;
      kRuns[height - 1](panels, x + row * stride, stride, panel, std::min(end, panel + step),
                        scales ? scales + row : nullptr, y + row * panels.rows);
    }
  }
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
