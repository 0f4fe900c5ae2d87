#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/input_words.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cpu/input_words.h"
#include "backend/cpu/lanes-inl.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/integer.h"
#include "tensor/input_scales.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

constexpr std::int64_t kBlock = 16;

HWY_INLINE FloatVector set(float value) { return hn::Set(F32(), value); }

// minifloat::encode_magnitude and decode at once: |x| rounded to M mantissa bits, with exponents down to 1 - bias.
template <int M, int bias>
HWY_INLINE FloatVector round_magnitude(FloatVector magnitude) {
  constexpr int drop = 23 - M;
  const auto bits = hn::BitCast(U32(), magnitude);
  const auto odd = hn::And(hn::ShiftRight<drop>(bits), hn::Set(U32(), 1u));
  const auto raised = hn::Add(bits, hn::Add(odd, hn::Set(U32(), (1u << (drop - 1)) - 1)));
  const auto normal = hn::BitCast(F32(), hn::And(raised, hn::Set(U32(), ~((1u << drop) - 1))));
  const auto magic = set(minifloat::power_of_two(1 - bias - M + 23));
  const auto subnormal = hn::Sub(hn::Add(magnitude, magic), magic);
  return hn::IfThenElse(hn::Lt(magnitude, set(minifloat::power_of_two(1 - bias))), subnormal, normal);
}

HWY_INLINE FloatVector round_int8(FloatVector x) {
  const auto low = set(integer::kInt8Min), high = set(integer::kInt8Max);
  auto q = hn::Round(x);
  q = hn::IfThenElse(hn::Gt(q, low), q, low);
  q = hn::IfThenElse(hn::Lt(q, high), q, high);
  return hn::Add(q, hn::Zero(F32()));  // -0 becomes 0
}

HWY_INLINE FloatVector round_e4m3(FloatVector x) {
  const auto most = set(e4m3::kMax);
  const auto magnitude = hn::Abs(x);
  const auto clamped = hn::IfThenElse(hn::Gt(magnitude, most), most, magnitude);
  return hn::IfThenElse(hn::Eq(x, x), hn::CopySign(round_magnitude<3, 7>(clamped), x), x);
}

HWY_INLINE FloatVector round_e2m1(FloatVector x) {
  const auto most = set(e2m1::kMax);
  const auto magnitude = hn::Abs(x);
  const auto rounded = round_magnitude<1, 1>(hn::IfThenElse(hn::Lt(magnitude, most), magnitude, most));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(F32())), hn::Neg(rounded), rounded);
}

// One block of 16, zero beyond the row's end.
HWY_INLINE void quantize_nvfp4(const float* x, const InputQuant& input, float* out) {
  auto most = hn::Zero(F32());
  for (int i = 0; i < kBlock; i += kPartLanes) {
    const auto magnitude = hn::Abs(hn::LoadU(F32(), x + i));
    most = hn::IfThenElse(hn::Gt(magnitude, most), magnitude, most);
  }
  float lanes[kPartLanes];
  hn::StoreU(most, F32(), lanes);
  const float amax = *std::max_element(lanes, lanes + kPartLanes);
  const float block = nvfp4_block_scale(input, amax), step = nvfp4_step(input, block);
  for (int i = 0; i < kBlock; i += kPartLanes) {
    const auto q = hn::Mul(round_e2m1(hn::Div(hn::LoadU(F32(), x + i), set(step))), set(block));
    hn::StoreU(step > 0 ? q : hn::Zero(F32()), F32(), out + i);
  }
}

// The largest magnitude, infinity where a value is not a number either. count: a multiple of kBlock.
HWY_INLINE float magnitude_of(const float* x, std::int64_t count) {
  auto most = hn::Zero(U32());
  for (std::int64_t i = 0; i < count; i += kPartLanes) {
    most = hn::Max(most, hn::BitCast(U32(), hn::Abs(hn::LoadU(F32(), x + i))));
  }
  std::uint32_t lanes[kPartLanes];
  hn::StoreU(most, U32(), lanes);
  const std::uint32_t bits = *std::max_element(lanes, lanes + kPartLanes);
  return bits > 0x7f800000u ? std::numeric_limits<float>::infinity() : std::bit_cast<float>(bits);
}

// out = f(x / step) * back for whole vectors.
template <class Round>
HWY_INLINE void round_values(const float* x, std::int64_t count, float step, float back, const Round& round,
                             float* out) {
  for (std::int64_t i = 0; i < count; i += kPartLanes) {
    hn::StoreU(hn::Mul(round(hn::Div(hn::LoadU(F32(), x + i), set(step))), set(back)), F32(), out + i);
  }
}

// One block of kDynamicE4M3Group or an MX kind, zero beyond the row's end.
HWY_INLINE void quantize_group(const float* x, std::int64_t block, const InputQuant& input, float* out) {
  const float amax = magnitude_of(x, block);
  const bool fp4 = input.kind == InputQuant::Kind::kDynamicMxfp4;
  const float step = input.kind == InputQuant::Kind::kDynamicE4M3Group ? amax / e4m3::kMax : mx_step(input, amax);
  if (!(amax <= std::numeric_limits<float>::max())) {
    std::fill(out, out + block, std::numeric_limits<float>::quiet_NaN());
  } else if (step == 0) {
    std::fill(out, out + block, 0.0f);
  } else if (fp4) {
    round_values(
        x, block, step, step, [](FloatVector v) { return round_e2m1(v); }, out);
  } else {
    round_values(
        x, block, step, step, [](FloatVector v) { return round_e4m3(v); }, out);
  }
}

// The codes of `count` values, a multiple of the input's block; scale: s_in. x and codes may be the same array.
void quantize_blocks(const float* x, std::int64_t count, const InputQuant& input, float scale, float* codes) {
  const std::int64_t block = input_block(input.kind);
  switch (input.kind) {
    case InputQuant::Kind::kNone:
      std::memmove(codes, x, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case InputQuant::Kind::kStaticInt8:
    case InputQuant::Kind::kDynamicInt8:
      return round_values(
          x, count, scale, 1.0f, [](FloatVector v) { return round_int8(v); }, codes);
    case InputQuant::Kind::kStaticE4M3:
    case InputQuant::Kind::kDynamicE4M3:
      return round_values(
          x, count, scale, 1.0f, [](FloatVector v) { return round_e4m3(v); }, codes);
    case InputQuant::Kind::kDynamicNvfp4:
      for (std::int64_t k = 0; k < count; k += block) quantize_nvfp4(x + k, input, codes + k);
      return;
    default:
      for (std::int64_t k = 0; k < count; k += block) quantize_group(x + k, block, input, codes + k);
  }
}

// Integers in f32 to words of two int16 or four bytes.
void pack_integers(const float* codes, std::int64_t count, PanelArithmetic arithmetic, std::uint32_t* words) {
  if (arithmetic == PanelArithmetic::kInt16Pairs) {
    auto* target = reinterpret_cast<std::int16_t*>(words);
    for (std::int64_t k = 0; k < count; ++k) target[k] = static_cast<std::int16_t>(static_cast<std::int32_t>(codes[k]));
  } else {
    auto* target = reinterpret_cast<std::uint8_t*>(words);
    for (std::int64_t k = 0; k < count; ++k)
      target[k] = static_cast<std::uint8_t>(static_cast<std::int32_t>(codes[k]) + 128);
  }
}

float stage_row_of(const float* x, std::int64_t cols, std::int64_t padded_cols, const InputQuant& input,
                   PanelArithmetic arithmetic, std::uint32_t* words) {
  static thread_local std::vector<float> codes;
  constexpr std::int64_t kMostBlock = 128;
  const std::int64_t block = input_block(input.kind), whole = cols / block * block;
  const std::int64_t blocks = (cols + block - 1) / block * block;
  codes.resize(static_cast<std::size_t>(blocks));
  float rest[kMostBlock] = {};
  if (whole < cols) std::memcpy(rest, x + whole, static_cast<std::size_t>(cols - whole) * sizeof(float));
  float scale = input.kind == InputQuant::Kind::kNone ? 1.0f : input.step();
  if (scales_tokens(input.kind)) {
    scale = token_scale(input.kind, std::max(magnitude_of(x, whole), magnitude_of(rest, block)));
  }
  quantize_blocks(x, whole, input, scale, codes.data());
  if (whole < cols) {
    quantize_blocks(rest, block, input, scale, codes.data() + whole);
    std::fill(codes.data() + cols, codes.data() + blocks, 0.0f);
  }
  if (arithmetic == PanelArithmetic::kF32) {
    std::memcpy(words, codes.data(), static_cast<std::size_t>(padded_cols) * sizeof(float));
  } else {
    pack_integers(codes.data(), padded_cols, arithmetic, words);
  }
  return scale;
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(stage_row_of);

float stage_row(const float* x, std::int64_t cols, std::int64_t padded_cols, const InputQuant& input,
                PanelArithmetic arithmetic, std::uint32_t* words) {
  return HWY_DYNAMIC_DISPATCH(stage_row_of)(x, cols, padded_cols, input, arithmetic, words);
}

}  // namespace halftone
#endif
