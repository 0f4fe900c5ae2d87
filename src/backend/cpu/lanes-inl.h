// Per-target: the 16 lanes of a panel as as many vectors as the instruction set needs, and a fused multiply-add.
#if defined(HALFTONE_BACKEND_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_LANES_INL_H_
#undef HALFTONE_BACKEND_CPU_LANES_INL_H_
#else
#define HALFTONE_BACKEND_CPU_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using I32 = hn::RebindToSigned<F32>;
using U32 = hn::RebindToUnsigned<F32>;

constexpr int kLaneCount = 16;
constexpr int kPartLanes = HWY_MIN(HWY_LANES(float), 16);
constexpr int kParts = kLaneCount / kPartLanes;

// body(0), ..., body(N - 1) with compile-time indices, so that arrays of sums become registers.
template <int N, class Body>
HWY_INLINE void unroll(const Body& body) {
  const auto each = [&]<int... I>(std::integer_sequence<int, I...>) HALFTONE_INLINE_LAMBDA {
    (body(std::integral_constant<int, I>()), ...);
  };
  each(std::make_integer_sequence<int, N>());
}

using FloatVector = hn::Vec<F32>;
using IntVector = hn::Vec<I32>;

// 16 values of T in order.
template <typename T>
struct Lanes {
  using Tag = hn::Rebind<T, F32>;
  hn::Vec<Tag> part[kParts];
};

template <typename V>
HWY_INLINE V fma_vector(V a, V b, V c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  const hn::DFromV<V> d;
  HWY_ALIGN float as[HWY_LANES(float)], bs[HWY_LANES(float)], cs[HWY_LANES(float)];
  hn::Store(a, d, as);
  hn::Store(b, d, bs);
  hn::Store(c, d, cs);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) cs[i] = std::fma(as[i], bs[i], cs[i]);
  return hn::Load(d, cs);
#endif
}

template <typename T>
HWY_INLINE Lanes<T> load_lanes(const T* p) {
  Lanes<T> out;
  for (int i = 0; i < kParts; ++i) out.part[i] = hn::LoadU(typename Lanes<T>::Tag(), p + i * kPartLanes);
  return out;
}

template <typename T>
HWY_INLINE void store_lanes(const Lanes<T>& lanes, T* p) {
  for (int i = 0; i < kParts; ++i) hn::StoreU(lanes.part[i], typename Lanes<T>::Tag(), p + i * kPartLanes);
}

template <typename T>
HWY_INLINE Lanes<T> set_lanes(T value) {
  Lanes<T> out;
  for (int i = 0; i < kParts; ++i) out.part[i] = hn::Set(typename Lanes<T>::Tag(), value);
  return out;
}

HWY_INLINE Lanes<float> fma_lanes(const Lanes<float>& a, const Lanes<float>& b, const Lanes<float>& c) {
  Lanes<float> out;
  for (int i = 0; i < kParts; ++i) out.part[i] = fma_vector(a.part[i], b.part[i], c.part[i]);
  return out;
}

HWY_INLINE Lanes<float> to_float(const Lanes<float>& lanes) { return lanes; }
HWY_INLINE Lanes<float> to_float(const Lanes<std::int32_t>& lanes) {
  Lanes<float> out;
  for (int i = 0; i < kParts; ++i) out.part[i] = hn::ConvertTo(F32(), lanes.part[i]);
  return out;
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
