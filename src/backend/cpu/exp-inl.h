// Per-target: ops/exp.h and bf16::round step by step in vectors.
#if defined(HALFTONE_BACKEND_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_EXP_INL_H_
#undef HALFTONE_BACKEND_CPU_EXP_INL_H_
#else
#define HALFTONE_BACKEND_CPU_EXP_INL_H_
#endif

#include "backend/cpu/lanes-inl.h"
#include "ops/exp.h"
#include "ops/norm.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

HWY_INLINE FloatVector power_of_two_vector(hn::Vec<I32> n) {
  return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::Add(n, hn::Set(I32(), 127))));
}

HWY_INLINE FloatVector exp_vector(FloatVector x) {
  namespace e = exponential;
  const F32 d;
  const auto lowest = hn::Set(d, e::kLowest), highest = hn::Set(d, e::kHighest), magic = hn::Set(d, e::kMagic);
  x = hn::IfThenElse(hn::Lt(x, lowest), lowest, x);
  x = hn::IfThenElse(hn::Gt(x, highest), highest, x);
  const auto shifted = fma_vector(x, hn::Set(d, e::kLog2E), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = fma_vector(n, hn::Set(d, -e::kLn2High), x);
  r = fma_vector(n, hn::Set(d, -e::kLn2Low), r);
  auto p = hn::Set(d, e::kP[0]);
  HWY_UNROLL(5)
  for (int i = 1; i < 6; ++i) p = fma_vector(p, r, hn::Set(d, e::kP[i]));
  const auto y = hn::Add(fma_vector(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto integer = hn::Sub(hn::BitCast(I32(), shifted), hn::BitCast(I32(), magic));
  const auto half = hn::ShiftRight<1>(integer);
  const auto scaled = hn::Mul(hn::Mul(y, power_of_two_vector(half)), power_of_two_vector(hn::Sub(integer, half)));
  return hn::IfThenElse(hn::Eq(x, x), scaled, x);
}

HWY_INLINE FloatVector sigmoid_vector(FloatVector x) {
  const auto one = hn::Set(F32(), 1.0f);
  return hn::Div(one, hn::Add(one, exp_vector(hn::Neg(x))));
}

HWY_INLINE FloatVector round_bf16_vector(FloatVector x) {
  const auto bits = hn::BitCast(U32(), x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(U32(), 1u));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(U32(), 0x7fffu)));
  const auto nan = hn::Or(bits, hn::Set(U32(), 0x400000u));
  const auto kept = hn::IfThenElse(hn::Eq(x, x), hn::BitCast(F32(), rounded), hn::BitCast(F32(), nan));
  return hn::BitCast(F32(), hn::And(hn::BitCast(U32(), kept), hn::Set(U32(), 0xffff0000u)));
}

template <Numerics numerics>
HWY_INLINE FloatVector round_vector(FloatVector x) {
  return numerics == Numerics::kBF16 ? round_bf16_vector(x) : x;
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
