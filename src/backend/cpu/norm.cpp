#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "backend/cpu/exp-inl.h"
#include "backend/cpu/map_vectors-inl.h"
#include "ops/norm_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

using F64 = hn::CappedTag<double, kNormParts>;
using DoubleVector = hn::Vec<F64>;
constexpr int kDoubleLanes = HWY_MIN(HWY_LANES(double), kNormParts);
constexpr int kDoubleVectors = kNormParts / kDoubleLanes;

// The sum of term(x[c]), by parts; what lies beyond the row's end adds zero.
template <class Term>
HWY_INLINE double sum_row(const float* x, std::int64_t cols, const Term& term) {
  const F64 d;
  const hn::Rebind<float, F64> narrow;
  DoubleVector sum[kDoubleVectors];
  for (auto& s : sum) s = hn::Zero(d);
  std::int64_t c = 0;
  for (; c + kNormParts <= cols; c += kNormParts) {
    for (int i = 0; i < kDoubleVectors; ++i) {
      sum[i] = hn::Add(sum[i], term(hn::PromoteTo(d, hn::LoadU(narrow, x + c + i * kDoubleLanes))));
    }
  }
  double parts[kNormParts];
  for (int i = 0; i < kDoubleVectors; ++i) hn::StoreU(sum[i], d, parts + i * kDoubleLanes);
  if (c < cols) {
    float rest[kNormParts] = {};
    double terms[kNormParts];
    std::copy(x + c, x + cols, rest);
    for (int i = 0; i < kDoubleVectors; ++i) {
      hn::StoreU(term(hn::PromoteTo(d, hn::LoadU(narrow, rest + i * kDoubleLanes))), d, terms + i * kDoubleLanes);
    }
    for (std::int64_t i = 0; c + i < cols; ++i) parts[i] += terms[i];
  }
  return sum_norm_parts(parts);
}

template <Numerics numerics>
void rms_norm_row(const float* x, const float* w, std::int64_t cols, float eps, float* y) {
  const double squares = sum_row(x, cols, [](DoubleVector v) HWY_ATTR { return hn::Mul(v, v); });
  const auto inverse = hn::Set(F32(), inverse_norm(squares, cols, eps));
  const auto scale = [inverse](FloatVector value, FloatVector weight) HWY_ATTR {
    return round_vector<numerics>(hn::Mul(weight, round_vector<numerics>(hn::Mul(value, inverse))));
  };
  map_vectors(cols, y, scale, x, w);
}

template <Numerics numerics>
void layer_norm_row(const float* x, const float* w, const float* b, std::int64_t cols, float eps, float* y) {
  const double mean = sum_row(x, cols, [](DoubleVector v) HWY_ATTR { return v; }) / static_cast<double>(cols);
  const auto middle = hn::Set(F64(), mean);
  const double squares = sum_row(x, cols, [middle](DoubleVector v) HWY_ATTR {
    const auto distance = hn::Sub(v, middle);
    return hn::Mul(distance, distance);
  });
  const auto inverse = hn::Set(F32(), inverse_norm(squares, cols, eps));
  const auto center = hn::Set(F32(), static_cast<float>(mean));
  const auto scale = [inverse, center](FloatVector value, FloatVector weight, FloatVector bias) HWY_ATTR {
    const auto scaled = hn::Mul(hn::Mul(hn::Sub(value, center), inverse), weight);
    return round_vector<numerics>(hn::Add(scaled, bias));
  };
  map_vectors(cols, y, scale, x, w, b);
}

void rms_norm_of(const float* x, const float* w, std::int64_t cols, float eps, Numerics numerics, float* y) {
  if (numerics == Numerics::kBF16) return rms_norm_row<Numerics::kBF16>(x, w, cols, eps, y);
  rms_norm_row<Numerics::kF32>(x, w, cols, eps, y);
}

void layer_norm_of(const float* x, const float* w, const float* b, std::int64_t cols, float eps, Numerics numerics,
                   float* y) {
  if (numerics == Numerics::kBF16) return layer_norm_row<Numerics::kBF16>(x, w, b, cols, eps, y);
  layer_norm_row<Numerics::kF32>(x, w, b, cols, eps, y);
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(rms_norm_of);
HWY_EXPORT(layer_norm_of);

void rms_norm_row_cpu(const float* x, const float* w, std::int64_t cols, float eps, Numerics numerics, float* y) {
  HWY_DYNAMIC_DISPATCH(rms_norm_of)(x, w, cols, eps, numerics, y);
}
void layer_norm_row_cpu(const float* x, const float* w, const float* b, std::int64_t cols, float eps, Numerics numerics,
                        float* y) {
  HWY_DYNAMIC_DISPATCH(layer_norm_of)(x, w, b, cols, eps, numerics, y);
}

}  // namespace halftone
#endif
