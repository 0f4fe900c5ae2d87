#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "backend/cpu/exp-inl.h"
#include "backend/cpu/map_vectors-inl.h"
#include "ops/elementwise_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

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
  HWY_INLINE FloatVector operator()(FloatVector x) const {
    const auto scaled = round_vector<numerics>(hn::Mul(hn::Set(F32(), 1.702f), x));
    return round_vector<numerics>(hn::Mul(x, round_vector<numerics>(sigmoid_vector(scaled))));
  }
};

struct RoundBf16 {
  HWY_INLINE FloatVector operator()(FloatVector x) const { return round_bf16_vector(x); }
};

template <template <Numerics> class Function, class... Inputs>
HWY_INLINE void map_with(Numerics numerics, std::int64_t count, float* y, const Inputs*... inputs) {
  if (numerics == Numerics::kBF16) {
    map_vectors(count, y, Function<Numerics::kBF16>(), inputs...);
  } else {
    map_vectors(count, y, Function<Numerics::kF32>(), inputs...);
  }
}

void add_of(const float* x, std::int64_t count, Numerics numerics, float* y) {
  map_with<Add>(numerics, count, y, x, static_cast<const float*>(y));
}
void silu_mul_of(const float* gate, const float* up, std::int64_t count, Numerics numerics, float* y) {
  map_with<SiluMul>(numerics, count, y, gate, up);
}
void quick_gelu_of(const float* x, std::int64_t count, Numerics numerics, float* y) {
  map_with<QuickGelu>(numerics, count, y, x);
}
void round_bf16_of(const float* x, std::int64_t count, float* y) { map_vectors(count, y, RoundBf16(), x); }

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
