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

// The larger (smaller) of two numbers; x where x is NaN.
HWY_INLINE FloatVector at_least(FloatVector bound, FloatVector x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  return hn::Max(bound, x);  // vmaxps gives its second operand for NaN
#else
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
#endif
}
HWY_INLINE FloatVector at_most(FloatVector bound, FloatVector x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  return hn::Min(bound, x);
#else
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
#endif
}

// y * 2^n, rounded once. shifted: the integer n in the last places of kMagic + n.
HWY_INLINE FloatVector scale_by_power(FloatVector y, FloatVector n, FloatVector shifted) {
#if HWY_TARGET == HWY_AVX3
  static_cast<void>(shifted);
  return FloatVector{_mm512_scalef_ps(y.raw, n.raw)};
#else
  static_cast<void>(n);
  const auto power = [](hn::Vec<I32> k) HALFTONE_INLINE_LAMBDA {
    return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::Add(k, hn::Set(I32(), 127))));
  };
  const auto integer = hn::Sub(hn::BitCast(I32(), shifted), hn::BitCast(I32(), hn::Set(F32(), exponential::kMagic)));
  const auto half = hn::ShiftRight<1>(integer);
  return hn::Mul(hn::Mul(y, power(half)), power(hn::Sub(integer, half)));
#endif
}

// exp of numbers that are at most kHighest, or NaN: NaN goes through all steps.
HWY_INLINE FloatVector exp_below_highest(FloatVector x) {
  namespace e = exponential;
  const F32 d;
  x = at_least(hn::Set(d, e::kLowest), x);
  const auto magic = hn::Set(d, e::kMagic);
  const auto shifted = fma_vector(x, hn::Set(d, e::kLog2E), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = fma_vector(n, hn::Set(d, -e::kLn2High), x);
  r = fma_vector(n, hn::Set(d, -e::kLn2Low), r);
  auto p = hn::Set(d, e::kP[0]);
  HWY_UNROLL(5)
  for (int i = 1; i < 6; ++i) p = fma_vector(p, r, hn::Set(d, e::kP[i]));
  const auto y = hn::Add(fma_vector(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  return scale_by_power(y, n, shifted);
}

HWY_INLINE FloatVector exp_vector(FloatVector x) {
  return exp_below_highest(at_most(hn::Set(F32(), exponential::kHighest), x));
}

// a / b bit for bit, given `inverse`, the rounded 1 / b, for 1 <= b < 2^20 (or NaN) and 0 <= a <= 2 (or NaN). Two
// steps of Newton: the first makes the quotient faithful, the second correct (Markstein, "Computation of elementary
// functions on the IBM RISC System/6000 processor", 1990, theorem 6). Its remainders are exact while they stay above
// the subnormal numbers, a above 2^-80; smaller numbers are divided.
HWY_INLINE FloatVector divide_by_sum(FloatVector a, FloatVector b, FloatVector inverse) {
#if HWY_NATIVE_FMA
  if (HWY_LIKELY(hn::AllFalse(F32(), hn::Lt(a, hn::Set(F32(), 0x1p-80f))))) {
    auto q = hn::Mul(a, inverse);
    q = hn::MulAdd(hn::NegMulAdd(q, b, a), inverse, q);
    return hn::MulAdd(hn::NegMulAdd(q, b, a), inverse, q);
  }
#else
  static_cast<void>(inverse);
#endif
  return hn::Div(a, b);
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
