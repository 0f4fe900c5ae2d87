#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/round_values.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "ops/round_values.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, 16>;
using U = hn::RebindToUnsigned<F>;
using I = hn::RebindToSigned<F>;
using Vector = hn::Vec<F>;
constexpr F kFloats;
constexpr U kWords;
constexpr I kInts;
inline std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(kFloats)); }

// round(vector, codes) for whole vectors, and for the rest through a copy that is padded with zeros.
template <typename Code, class Round>
HWY_INLINE void for_vectors(const float* x, std::int64_t n, Code* codes, const Round& round) {
  std::int64_t i = 0;
  for (; i + lanes() <= n; i += lanes()) round(hn::LoadU(kFloats, x + i), codes + i);
  if (i >= n) return;
  const std::int64_t first = i;
  float rest[16] = {};
  Code out[16];
  for (; i < n; ++i) rest[i - first] = x[i];
  round(hn::LoadU(kFloats, rest), out);
  for (i = first; i < n; ++i) codes[i] = out[i - first];
}

// f32 rounded to bf16 or f16 and back; finite values, f16 overflow apart, which becomes infinity.
template <DType quotients>
HWY_INLINE Vector round_type(Vector x) {
  if constexpr (quotients == DType::kBF16) {
    const auto bits = hn::BitCast(kWords, x);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(kWords, 1u));
    const auto raised = hn::Add(bits, hn::Add(odd, hn::Set(kWords, 0x7fffu)));
    return hn::BitCast(kFloats, hn::And(raised, hn::Set(kWords, 0xffff0000u)));
  } else if constexpr (quotients == DType::kF16) {
    const hn::Rebind<hwy::float16_t, F> halves;
    return hn::PromoteTo(kFloats, hn::DemoteTo(halves, x));
  } else {
    return x;
  }
}

// minifloat::encode_magnitude of 0 <= x <= the largest number.
template <int E, int M, int bias>
HWY_INLINE hn::Vec<U> encode_magnitude(Vector x) {
  constexpr int drop = 23 - M;
  const auto bits = hn::BitCast(kWords, x);
  const auto odd = hn::And(hn::ShiftRight<drop>(bits), hn::Set(kWords, 1u));
  const auto raised = hn::Add(bits, hn::Add(odd, hn::Set(kWords, (1u << (drop - 1)) - 1)));
  const auto normal =
      hn::Sub(hn::ShiftRight<drop>(raised), hn::Set(kWords, static_cast<std::uint32_t>(127 - bias) << M));
  const auto magic = hn::Set(kFloats, minifloat::power_of_two(1 - bias - M + 23));
  const auto small = hn::Sub(hn::BitCast(kWords, hn::Add(x, magic)), hn::BitCast(kWords, magic));
  const auto subnormal = hn::Lt(x, hn::Set(kFloats, minifloat::power_of_two(1 - bias)));
  return hn::IfThenElse(hn::RebindMask(kWords, subnormal), small, normal);
}

template <typename Code, class V>
HWY_INLINE void store_bytes(V words, Code* codes) {
  const hn::Rebind<Code, F> bytes;
  hn::StoreU(hn::DemoteTo(bytes, hn::BitCast(kInts, words)), bytes, codes);
}

template <DType quotients>
void integers(const float* x, std::int64_t n, float scale, float zero, int low, int high, std::int8_t* codes) {
  const auto step = hn::Set(kFloats, scale), shift = hn::Set(kFloats, zero);
  const auto least = hn::Set(kFloats, static_cast<float>(low)), most = hn::Set(kFloats, static_cast<float>(high));
  for_vectors(x, n, codes, [&](Vector v, std::int8_t* out) HWY_ATTR {
    const auto quotient = round_type<quotients>(hn::Add(round_type<quotients>(hn::Div(v, step)), shift));
    store_bytes(hn::NearestInt(hn::Min(hn::Max(quotient, least), most)), out);
  });
}

template <DType quotients>
void e4m3_codes(const float* x, std::int64_t n, float scale, std::uint8_t* codes) {
  const auto step = hn::Set(kFloats, scale), most = hn::Set(kFloats, e4m3::kMax);
  for_vectors(x, n, codes, [&](Vector v, std::uint8_t* out) HWY_ATTR {
    const auto quotient = round_type<quotients>(hn::Div(v, step));
    const auto code = encode_magnitude<4, 3, 7>(hn::Min(hn::Abs(quotient), most));
    const auto sign = hn::And(hn::ShiftRight<24>(hn::BitCast(kWords, quotient)), hn::Set(kWords, 0x80u));
    store_bytes(hn::Or(code, sign), out);
  });
}

template <bool ties_down>
void e2m1_codes(const float* x, std::int64_t n, float scale, std::uint8_t* codes) {
  const auto step = hn::Set(kFloats, scale), most = hn::Set(kFloats, e2m1::kMax);
  for_vectors(x, n, codes, [&](Vector v, std::uint8_t* out) HWY_ATTR {
    const auto quotient = hn::Div(v, step);
    auto magnitude = hn::Abs(quotient);
    if (ties_down) {  // what lies just below rounds the same, but for ties
      const auto bits = hn::Max(hn::BitCast(kInts, magnitude), hn::Set(kInts, 1));
      magnitude = hn::BitCast(kFloats, hn::Sub(bits, hn::Set(kInts, 1)));
    }
    const auto code = encode_magnitude<2, 1, 1>(hn::Min(magnitude, most));
    const auto zero = hn::Zero(kFloats);
    const auto negative = ties_down ? hn::Not(hn::Gt(quotient, zero)) : hn::Lt(quotient, zero);
    const auto sign = hn::IfThenElseZero(hn::RebindMask(kWords, negative), hn::Set(kWords, 8u));
    store_bytes(hn::Or(code, sign), out);
  });
}

void integers_of(const float* x, std::int64_t n, float scale, float zero, int low, int high, DType quotients,
                 std::int8_t* codes) {
  if (quotients == DType::kBF16) return integers<DType::kBF16>(x, n, scale, zero, low, high, codes);
  if (quotients == DType::kF16) return integers<DType::kF16>(x, n, scale, zero, low, high, codes);
  integers<DType::kF32>(x, n, scale, zero, low, high, codes);
}

void e4m3_of(const float* x, std::int64_t n, float scale, DType quotients, std::uint8_t* codes) {
  if (quotients == DType::kBF16) return e4m3_codes<DType::kBF16>(x, n, scale, codes);
  if (quotients == DType::kF16) return e4m3_codes<DType::kF16>(x, n, scale, codes);
  e4m3_codes<DType::kF32>(x, n, scale, codes);
}

void e2m1_of(const float* x, std::int64_t n, float scale, bool ties_down, std::uint8_t* codes) {
  ties_down ? e2m1_codes<true>(x, n, scale, codes) : e2m1_codes<false>(x, n, scale, codes);
}

// Plain loops below: compilers turn them into vectors of this target.
void widen_bf16_of(const std::uint16_t* bits, std::int64_t n, float* values) {
  for (std::int64_t i = 0; i < n; ++i) values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bits[i]) << 16);
}

std::uint32_t magnitude_of(const float* x, std::int64_t n) {
  const auto* bits = reinterpret_cast<const std::uint32_t*>(x);
  auto most = hn::Zero(kInts);
  const auto mask = hn::Set(kInts, 0x7fffffff);
  std::int64_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    most = hn::Max(most, hn::And(hn::BitCast(kInts, hn::LoadU(kWords, bits + i)), mask));
  }
  auto largest = static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(kInts, most)));
  for (; i < n; ++i) largest = std::max(largest, bits[i] & 0x7fffffffu);
  return largest;
}

void range_of(const float* x, std::int64_t n, float* low, float* high) {
  auto least = hn::Set(kFloats, x[0]), most = least;
  std::int64_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    const auto v = hn::LoadU(kFloats, x + i);
    least = hn::Min(least, v);
    most = hn::Max(most, v);
  }
  *low = hn::GetLane(hn::MinOfLanes(kFloats, least));
  *high = hn::GetLane(hn::MaxOfLanes(kFloats, most));
  for (; i < n; ++i) {
    *low = std::min(*low, x[i]);
    *high = std::max(*high, x[i]);
  }
}

void nibbles_of(const std::uint8_t* codes, std::int64_t n, std::uint8_t* bytes) {
  for (std::int64_t i = 0; i < n / 2; ++i) {
    bytes[i] = static_cast<std::uint8_t>((codes[2 * i] & 0xf) | (codes[2 * i + 1] << 4));
  }
  if (n % 2 != 0) bytes[n / 2] = static_cast<std::uint8_t>(codes[n - 1] & 0xf);
}

void energies_of(const float* reference, const float* value, std::int64_t n, double* signal, double* noise) {
  const hn::CappedTag<double, 8> doubles;
  const hn::Rebind<float, decltype(doubles)> floats;
  const auto step = static_cast<std::int64_t>(hn::Lanes(doubles));
  auto s = hn::Zero(doubles), e = hn::Zero(doubles);
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    const auto r = hn::PromoteTo(doubles, hn::LoadU(floats, reference + i));
    const auto d = hn::Sub(hn::PromoteTo(doubles, hn::LoadU(floats, value + i)), r);
    s = hn::MulAdd(r, r, s);
    e = hn::MulAdd(d, d, e);
  }
  *signal += hn::GetLane(hn::SumOfLanes(doubles, s));
  *noise += hn::GetLane(hn::SumOfLanes(doubles, e));
  for (; i < n; ++i) {
    const double d = static_cast<double>(value[i]) - reference[i];
    *signal += static_cast<double>(reference[i]) * reference[i];
    *noise += d * d;
  }
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(integers_of);
HWY_EXPORT(e4m3_of);
HWY_EXPORT(e2m1_of);
HWY_EXPORT(widen_bf16_of);
HWY_EXPORT(magnitude_of);
HWY_EXPORT(range_of);
HWY_EXPORT(nibbles_of);
HWY_EXPORT(energies_of);

void widen(const Tensor& tensor, std::int64_t begin, std::int64_t n, float* values) {
  switch (tensor.dtype()) {
    case DType::kF32:
      std::copy_n(tensor.data<float>() + begin, n, values);
      return;
    case DType::kBF16:
      HWY_DYNAMIC_DISPATCH(widen_bf16_of)(tensor.bits<std::uint16_t>() + begin, n, values);
      return;
    case DType::kF16:
      for (std::int64_t i = 0; i < n; ++i) values[i] = f16::decode(tensor.bits<std::uint16_t>()[begin + i]);
      return;
    default:
      fail("widen", "expected F32, BF16 or F16, got {}", dtype_name(tensor.dtype()));
  }
}

std::uint32_t magnitude_bits(const float* x, std::int64_t n) { return HWY_DYNAMIC_DISPATCH(magnitude_of)(x, n); }

void find_range(const float* x, std::int64_t n, float& low, float& high) {
  HWY_DYNAMIC_DISPATCH(range_of)(x, n, &low, &high);
}

void round_integers(const float* x, std::int64_t n, float scale, float zero, int low, int high, DType quotients,
                    std::int8_t* codes) {
  HWY_DYNAMIC_DISPATCH(integers_of)(x, n, scale, zero, low, high, quotients, codes);
}

void round_e4m3(const float* x, std::int64_t n, float scale, DType quotients, std::uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(e4m3_of)(x, n, scale, quotients, codes);
}

void round_e2m1(const float* x, std::int64_t n, float scale, bool ties_down, std::uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(e2m1_of)(x, n, scale, ties_down, codes);
}

void pack_nibbles(const std::uint8_t* codes, std::int64_t n, std::uint8_t* bytes) {
  HWY_DYNAMIC_DISPATCH(nibbles_of)(codes, n, bytes);
}

void add_energies(const float* reference, const float* value, std::int64_t n, double& signal, double& noise) {
  HWY_DYNAMIC_DISPATCH(energies_of)(reference, value, n, &signal, &noise);
}

}  // namespace halftone
#endif
