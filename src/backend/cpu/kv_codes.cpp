#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kv_codes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <limits>

#include "backend/cpu/lanes-inl.h"
#include "formats/bf16.h"
#include "formats/kv_int8.h"
#include "ops/kv_codes.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// s eeee mmm becomes the half-precision number s 0eeee mmm0000000, 2^-8 of the value; the NaN codes become 480.
struct E4m3Values {
  static HWY_INLINE FloatVector of(const std::uint8_t* codes) {
    const hn::Rebind<std::int8_t, F32> bytes;
    const hn::Rebind<std::int16_t, F32> shorts;
    const hn::Rebind<hwy::float16_t, F32> half;
    const auto moved =
        hn::ShiftLeft<7>(hn::PromoteTo(shorts, hn::LoadU(bytes, reinterpret_cast<const std::int8_t*>(codes))));
    const auto cleared = hn::And(moved, hn::Set(shorts, static_cast<std::int16_t>(0xbfff)));
    const auto value = hn::Mul(hn::PromoteTo(F32(), hn::BitCast(half, cleared)), hn::Set(F32(), 256.0f));
    const auto nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
    return hn::IfThenElse(hn::Eq(hn::Abs(value), hn::Set(F32(), 480.0f)), nan, value);
  }
};

struct Int8Values {
  static HWY_INLINE FloatVector of(const std::int8_t* codes) {
    const hn::Rebind<std::int8_t, F32> bytes;
    const hn::Rebind<std::int32_t, F32> words;
    const auto value = hn::ConvertTo(F32(), hn::PromoteTo(words, hn::LoadU(bytes, codes)));
    const auto nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
    return hn::IfThenElse(hn::Lt(value, hn::Set(F32(), -kv_int8::kMax)), nan, value);
  }
};

template <typename Values, typename Code>
HWY_INLINE void decode_scaled(const Code* codes, std::int64_t count, float scale, float* y) {
  const F32 d;
  const auto factor = hn::Set(d, scale);
  std::int64_t i = 0;
  for (; i + kPartLanes <= count; i += kPartLanes) hn::StoreU(hn::Mul(Values::of(codes + i), factor), d, y + i);
  if (i == count) return;
  Code rest[kLaneCount] = {};
  float values[kLaneCount];
  for (std::int64_t j = i; j < count; ++j) rest[j - i] = codes[j];
  hn::StoreU(hn::Mul(Values::of(rest), factor), d, values);
  for (std::int64_t j = i; j < count; ++j) y[j] = values[j - i];
}

void decode_e4m3_of(const std::uint8_t* codes, std::int64_t count, float scale, float* y) {
  decode_scaled<E4m3Values>(codes, count, scale, y);
}
void decode_int8_of(const std::int8_t* codes, std::int64_t count, float scale, float* y) {
  decode_scaled<Int8Values>(codes, count, scale, y);
}

void decode_bf16_of(const std::uint16_t* codes, std::int64_t count, float* y) {
  const F32 d;
  const hn::Rebind<std::uint16_t, F32> shorts;
  std::int64_t i = 0;
  for (; i + kPartLanes <= count; i += kPartLanes) {
    const auto words = hn::PromoteTo(U32(), hn::LoadU(shorts, codes + i));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(words)), d, y + i);
  }
  for (; i < count; ++i) y[i] = bf16::decode(codes[i]);
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(decode_e4m3_of);
HWY_EXPORT(decode_int8_of);
HWY_EXPORT(decode_bf16_of);

void decode_e4m3(const std::uint8_t* codes, std::int64_t count, float scale, float* y) {
  HWY_DYNAMIC_DISPATCH(decode_e4m3_of)(codes, count, scale, y);
}
void decode_int8(const std::int8_t* codes, std::int64_t count, float scale, float* y) {
  HWY_DYNAMIC_DISPATCH(decode_int8_of)(codes, count, scale, y);
}
void decode_bf16(const std::uint16_t* codes, std::int64_t count, float* y) {
  HWY_DYNAMIC_DISPATCH(decode_bf16_of)(codes, count, y);
}

}  // namespace halftone
#endif
