#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "backend/cpu/exp-inl.h"
#include "ops/rope_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

template <Numerics numerics>
struct Rotated {
  FloatVector low, high;
  HWY_INLINE Rotated(FloatVector x, FloatVector y, FloatVector cos, FloatVector sin)
      : low(difference(x, y, cos, sin)), high(sum(x, y, cos, sin)) {}

 private:
  static HWY_INLINE FloatVector product(FloatVector a, FloatVector b) { return round_vector<numerics>(hn::Mul(a, b)); }
  static HWY_INLINE FloatVector difference(FloatVector x, FloatVector y, FloatVector cos, FloatVector sin) {
    return round_vector<numerics>(hn::Sub(product(x, cos), product(y, sin)));
  }
  static HWY_INLINE FloatVector sum(FloatVector x, FloatVector y, FloatVector cos, FloatVector sin) {
    return round_vector<numerics>(hn::Add(product(y, cos), product(x, sin)));
  }
};

template <Numerics numerics>
HWY_INLINE void rotate(const float* cos, const float* sin, std::int64_t half, float* x) {
  const F32 d;
  std::int64_t j = 0;
  for (; j + kPartLanes <= half; j += kPartLanes) {
    const Rotated<numerics> y(hn::LoadU(d, x + j), hn::LoadU(d, x + half + j), hn::LoadU(d, cos + j),
                              hn::LoadU(d, sin + j));
    hn::StoreU(y.low, d, x + j);
    hn::StoreU(y.high, d, x + half + j);
  }
  if (j == half) return;
  const auto mask = hn::FirstN(d, static_cast<std::size_t>(half - j));
  const Rotated<numerics> y(hn::MaskedLoad(mask, d, x + j), hn::MaskedLoad(mask, d, x + half + j),
                            hn::MaskedLoad(mask, d, cos + j), hn::MaskedLoad(mask, d, sin + j));
  hn::BlendedStore(y.low, mask, d, x + j);
  hn::BlendedStore(y.high, mask, d, x + half + j);
}

void rotate_of(const float* cos, const float* sin, std::int64_t half, Numerics numerics, float* x) {
  if (numerics == Numerics::kBF16) return rotate<Numerics::kBF16>(cos, sin, half, x);
  rotate<Numerics::kF32>(cos, sin, half, x);
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(rotate_of);

void rotate_cpu(const float* cos, const float* sin, std::int64_t half, Numerics numerics, float* x) {
  HWY_DYNAMIC_DISPATCH(rotate_of)(cos, sin, half, numerics, x);
}

}  // namespace halftone
#endif
