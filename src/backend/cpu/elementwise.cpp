#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <cstring>

#include "backend/cpu/exp-inl.h"
#include "ops/elementwise_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// y[i] = function(a[i], b[i]) by whole vectors; the rest goes through a padded copy, so that every element takes the
// same instructions.
template <class Function>
HWY_INLINE void map_vectors(const float* a, const float* b, std::int64_t count, float* y, const Function& function) {
  const F32 d;
  std::int64_t i = 0;
  for (; i + kPartLanes <= count; i += kPartLanes) {
    hn::StoreU(function(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
  }
  if (i == count) return;
  float rest[2][kPartLanes] = {};
  const auto bytes = static_cast<std::size_t>(count - i) * sizeof(float);
  std::memcpy(rest[0], a + i, bytes);
  std::memcpy(rest[1], b + i, bytes);
  hn::StoreU(function(hn::LoadU(d, rest[0]), hn::LoadU(d, rest[1])), d, rest[0]);
  std::memcpy(y + i, rest[0], bytes);
}

template <Numerics numerics>
struct Add {
  HWY_INLINE FloatVector operator()(FloatVector x, FloatVector y) const {
    return round_vector<numerics>(hn::Add(x, y));
  }
};

template <Numerics numerics>
struct SiluMul {
  HWY_INLINE FloatVector operator()(FloatVector gate, FloatVector up) const {
    const auto silu = round_vector<numerics>(hn::Mul(gate, sigmoid_vector(gate)));
    return round_vector<numerics>(hn::Mul(silu, up));
  }
};

template <Numerics numerics>
struct QuickGelu {
  HWY_INLINE FloatVector operator()(FloatVector x, FloatVector) const {
    const auto scaled = round_vector<numerics>(hn::Mul(hn::Set(F32(), 1.702f), x));
    return round_vector<numerics>(hn::Mul(x, round_vector<numerics>(sigmoid_vector(scaled))));
  }
};

struct RoundBf16 {
  HWY_INLINE FloatVector operator()(FloatVector x, FloatVector) const { return round_bf16_vector(x); }
};

template <template <Numerics> class Function>
HWY_INLINE void map_with(const float* a, const float* b, std::int64_t count, Numerics numerics, float* y) {
  if (numerics == Numerics::kBF16) {
    map_vectors(a, b, count, y, Function<Numerics::kBF16>());
  } else {
    map_vectors(a, b, count, y, Function<Numerics::kF32>());
  }
}

void add_of(const float* x, std::int64_t count, Numerics numerics, float* y) {
  map_with<Add>(x, y, count, numerics, y);
}
void silu_mul_of(const float* gate, const float* up, std::int64_t count, Numerics numerics, float* y) {
  map_with<SiluMul>(gate, up, count, numerics, y);
}
void quick_gelu_of(const float* x, std::int64_t count, Numerics numerics, float* y) {
  map_with<QuickGelu>(x, x, count, numerics, y);
}
void round_bf16_of(const float* x, std::int64_t count, float* y) { map_vectors(x, x, count, y, RoundBf16()); }

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(add_of);
HWY_EXPORT(silu_mul_of);
HWY_EXPORT(quick_gelu_of);
HWY_EXPORT(round_bf16_of);

void add_cpu(const float* x, std::int64_t count, Numerics numerics, float* y) {
  HWY_DYNAMIC_DISPATCH(add_of)(x, count, numerics, y);
}
void silu_mul_cpu(const float* gate, const float* up, std::int64_t count, Numerics numerics, float* y) {
  HWY_DYNAMIC_DISPATCH(silu_mul_of)(gate, up, count, numerics, y);
}
void quick_gelu_cpu(const float* x, std::int64_t count, Numerics numerics, float* y) {
  HWY_DYNAMIC_DISPATCH(quick_gelu_of)(x, count, numerics, y);
}
void round_bf16_cpu(const float* x, std::int64_t count, float* y) { HWY_DYNAMIC_DISPATCH(round_bf16_of)(x, count, y); }

}  // namespace halftone
#endif
