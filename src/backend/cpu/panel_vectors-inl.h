// Per-target: one to four rows of x against panels, streaming the weight once. Several panels run side by side, because
// one chain of fused multiply-adds waits for its own result.
#if defined(HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_
#undef HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_
#else
#define HALFTONE_BACKEND_CPU_PANEL_VECTORS_INL_H_
#endif

#include <algorithm>

#include "backend/cpu/panel_arithmetic-inl.h"
#include "backend/cpu/panel_decoders-inl.h"
#include "backend/cpu/panel_products.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// y[n] = fma(total, factor, bias) for the outputs of one panel; the last panel may be cut.
HWY_INLINE void store_outputs(const Panels& panels, std::int64_t panel, const Lanes<float>& total, float* row) {
  const std::int64_t n = panel * kPanelRows;
  const auto factor = load_lanes(static_cast<const float*>(panels.factor.raw()) + n);
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

// R rows against P panels from `panel` on.
template <class Op, class Decode, int R, int P>
HWY_INLINE void multiply_vectors(const Panels& panels, const std::uint32_t* x, std::int64_t panel, float* y) {
  const Decode decode(panels);
  const std::int64_t words = panels.padded_cols / Op::kCols, group = panels.group / Op::kCols;
  const std::uint8_t* codes[P];
  for (int p = 0; p < P; ++p) codes[p] = panels.panel(panel + p);
  Lanes<float> total[R][P];
  for (int i = 0; i < R * P; ++i) total[i / P][i % P] = set_lanes(0.0f);
  for (std::int64_t g = 0, k = 0; g < panels.groups; ++g) {
    Lanes<typename Op::T> sum[R][P];
    for (int p = 0; p < P; ++p) {
      for (int r = 0; r < R; ++r) sum[r][p] = Op::start(panels, panel + p);
    }
    for (const std::int64_t end = std::min(words, k + group); k < end; k += Decode::kWords) {
      HWY_UNROLL(8)
      for (int p = 0; p < P; ++p) {
        Lanes<typename Op::T> w[Decode::kWords];
        decode(codes[p], w);
        codes[p] += Decode::kBytes;
        HWY_UNROLL(4)
        for (int i = 0; i < Decode::kWords; ++i) {
          HWY_UNROLL(4)
          for (int r = 0; r < R; ++r) Op::add(Op::broadcast(x + r * words + k + i), w[i], sum[r][p]);
        }
      }
    }
    for (int p = 0; p < P; ++p) {
      for (int r = 0; r < R; ++r) {
        const Lanes<float> inner = to_float(sum[r][p]);
        total[r][p] = panels.has_scales ? fma_lanes(load_scales(panels, panel + p, g), inner, total[r][p]) : inner;
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int r = 0; r < R; ++r) store_outputs(panels, panel + p, total[r][p], y + r * panels.rows);
  }
}

template <class Op, class Decode, int R>
HWY_NOINLINE void multiply_vector_range(const Panels& panels, const std::uint32_t* x, std::int64_t begin,
                                        std::int64_t end, float* y) {
  // eight chains keep two pipelines of latency four busy; more rows need fewer panels
  constexpr int kChains = HWY_TARGET == HWY_AVX3 ? 16 : 8;
  constexpr int P = std::max(1, std::min(8, kChains / (R * kParts)));
  std::int64_t panel = begin;
  for (; panel + P <= end; panel += P) multiply_vectors<Op, Decode, R, P>(panels, x, panel, y);
  for (; panel < end; ++panel) multiply_vectors<Op, Decode, R, 1>(panels, x, panel, y);
}

template <class Op, class Decode>
void multiply_rows_with(const Panels& panels, const std::uint32_t* x, std::int64_t rows, std::int64_t begin,
                        std::int64_t end, float* y) {
  switch (rows) {
    case 1:
      return multiply_vector_range<Op, Decode, 1>(panels, x, begin, end, y);
    case 2:
      return multiply_vector_range<Op, Decode, 2>(panels, x, begin, end, y);
    case 3:
      return multiply_vector_range<Op, Decode, 3>(panels, x, begin, end, y);
    default:
      return multiply_vector_range<Op, Decode, 4>(panels, x, begin, end, y);
  }
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
