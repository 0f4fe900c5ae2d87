// Per-target: what one word of x and one word of each lane's weight add to the sums.
#if defined(HALFTONE_BACKEND_CPU_PANEL_ARITHMETIC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_PANEL_ARITHMETIC_INL_H_
#undef HALFTONE_BACKEND_CPU_PANEL_ARITHMETIC_INL_H_
#else
#define HALFTONE_BACKEND_CPU_PANEL_ARITHMETIC_INL_H_
#endif

#include <cstring>

#include "backend/cpu/lanes-inl.h"
#include "backend/cpu/panels.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

struct MultiplyF32 {
  using T = float;
  static constexpr std::int64_t kCols = 1;
  using V = FloatVector;
  static HWY_INLINE V broadcast(const std::uint32_t* word) {
    float value;
    std::memcpy(&value, word, 4);
    return hn::Set(F32(), value);
  }
  static HWY_INLINE Lanes<float> start(const Panels&, std::int64_t) { return set_lanes(0.0f); }
  static HWY_INLINE void add(V x, V w, V& sum) { sum = fma_vector(x, w, sum); }
};

// Exact: a pair of products of int8 is below 2^15 in magnitude each, their sum fits int32.
struct MultiplyInt16Pairs {
  using T = std::int32_t;
  using V = IntVector;
  static constexpr std::int64_t kCols = 2;
  static HWY_INLINE V broadcast(const std::uint32_t* word) { return hn::Set(I32(), static_cast<T>(*word)); }
  static HWY_INLINE Lanes<T> start(const Panels&, std::int64_t) { return set_lanes(T{0}); }
  static HWY_INLINE void add(V x, V w, V& sum) {
#if HWY_TARGET == HWY_AVX2
    // as assembly because compilers hoist the products of a whole tile, for which 16 registers are too few
    __m256i total = sum.raw, product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(total), "=&x"(product) : "x"(x.raw), "x"(w.raw));
    sum.raw = total;
#elif HWY_TARGET == HWY_AVX3
    sum = hn::Add(sum, V{_mm512_madd_epi16(x.raw, w.raw)});
#else
    const V even = hn::Mul(hn::ShiftRight<16>(hn::ShiftLeft<16>(x)), hn::ShiftRight<16>(hn::ShiftLeft<16>(w)));
    sum = hn::Add(sum, hn::Add(even, hn::Mul(hn::ShiftRight<16>(x), hn::ShiftRight<16>(w))));
#endif
  }
};

#if HWY_TARGET == HWY_AVX3
// vpdpbusd multiplies unsigned by signed bytes: x comes with 128 added, and the sums start at -128 sum_k W. int32
// wraps, so the end is exact whatever happens on the way.
struct MultiplyInt8Quads {
  using T = std::int32_t;
  using V = IntVector;
  static constexpr std::int64_t kCols = 4;
  static HWY_INLINE V broadcast(const std::uint32_t* word) { return hn::Set(I32(), static_cast<T>(*word)); }
  static HWY_INLINE Lanes<T> start(const Panels& panels, std::int64_t panel) {
    return load_lanes(static_cast<const T*>(panels.start.raw()) + panel * kPanelRows);
  }
  static HWY_INLINE void add(V x, V w, V& sum) {
    // as assembly because the target's flags leave VNNI out; has_vnni() guards it
    __m512i total = sum.raw;
    __asm__("vpdpbusd %2, %1, %0" : "+v"(total) : "v"(x.raw), "v"(w.raw));
    sum.raw = total;
  }
};
#endif

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
