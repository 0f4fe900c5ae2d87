// Per-target: from the codes of a panel to the operands of a product. A decoder hands kWords words of each of the 16
// lanes, vector by vector, to use(word, part, vector): what is used at once needs no register. It is exact, so that
// every kernel multiplies the same numbers.
#if defined(HALFTONE_BACKEND_CPU_PANEL_DECODERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_PANEL_DECODERS_INL_H_
#undef HALFTONE_BACKEND_CPU_PANEL_DECODERS_INL_H_
#else
#define HALFTONE_BACKEND_CPU_PANEL_DECODERS_INL_H_
#endif

#include <cstring>

#include "backend/cpu/lanes-inl.h"
#include "backend/cpu/panels.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// What lies in memory is the operand itself.
template <typename T>
struct DecodeNothing {
  static constexpr int kWords = 1, kBytes = 64;
  static constexpr bool kDirect = true;
  explicit DecodeNothing(const Panels&) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const auto words = load_lanes(reinterpret_cast<const T*>(p));
    for (int i = 0; i < kParts; ++i) use(0, i, words.part[i]);
  }
};

struct DecodeBf16 {
  static constexpr int kWords = 2, kBytes = 64;
  static constexpr bool kDirect = false;
  explicit DecodeBf16(const Panels&) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const auto pairs = load_lanes(reinterpret_cast<const std::uint32_t*>(p));
    // word by word, so that few words of x are needed at once
    for (int i = 0; i < kParts; ++i) use(0, i, hn::BitCast(F32(), hn::ShiftLeft<16>(pairs.part[i])));
    for (int i = 0; i < kParts; ++i) {
      use(1, i, hn::BitCast(F32(), hn::And(pairs.part[i], hn::Set(U32(), 0xffff0000u))));
    }
  }
};

struct DecodeF16 {
  static constexpr int kWords = 1, kBytes = 32;
  static constexpr bool kDirect = false;
  explicit DecodeF16(const Panels&) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const hn::Rebind<hwy::float16_t, F32> half;
    for (int i = 0; i < kParts; ++i) {
      const auto codes = hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(p) + i * kPartLanes);
      use(0, i, hn::PromoteTo(F32(), codes));
    }
  }
};

struct DecodeInt8 {
  static constexpr int kWords = 1, kBytes = 16;
  static constexpr bool kDirect = false;
  explicit DecodeInt8(const Panels&) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const hn::Rebind<std::int8_t, F32> bytes;
    for (int i = 0; i < kParts; ++i) {
      const auto codes = hn::LoadU(bytes, reinterpret_cast<const std::int8_t*>(p) + i * kPartLanes);
      use(0, i, hn::ConvertTo(F32(), hn::PromoteTo(I32(), codes)));
    }
  }
};

// s eeee mmm becomes the half-precision number s 0eeee mmm0000000, which is 2^-8 of the value, subnormals included.
// NaN codes would become 480: panel_storage() keeps them out.
struct DecodeE4m3 {
  static constexpr int kWords = 1, kBytes = 16;
  static constexpr bool kDirect = false;
  explicit DecodeE4m3(const Panels&) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const hn::Rebind<std::int8_t, F32> bytes;
    const hn::Rebind<std::int16_t, F32> shorts;
    const hn::Rebind<hwy::float16_t, F32> half;
    for (int i = 0; i < kParts; ++i) {
      const auto codes = hn::LoadU(bytes, reinterpret_cast<const std::int8_t*>(p) + i * kPartLanes);
      const auto moved = hn::ShiftLeft<7>(hn::PromoteTo(shorts, codes));
      const auto cleared = hn::And(moved, hn::Set(shorts, static_cast<std::int16_t>(0xbfff)));
      use(0, i, hn::Mul(hn::PromoteTo(F32(), hn::BitCast(half, cleared)), hn::Set(F32(), 256.0f)));
    }
  }
};

// Four bits through a table of 16 values: DecodeNibble of ones exact in bf16, DecodeWideNibble of any.
#if HWY_TARGET == HWY_AVX2
// Byte shuffles look up the parts of the value, unpacking puts them together: the two upper bytes, or all four.
template <bool kWide>
struct DecodeNibbleByShuffles {
  static constexpr int kWords = 4, kBytes = 32;
  static constexpr bool kDirect = false;
  explicit DecodeNibbleByShuffles(const Panels& panels) {
    for (int part = kFirst; part < 4; ++part) {
      alignas(16) std::uint8_t bytes[16];
      for (int code = 0; code < 16; ++code) {
        std::uint32_t bits;
        std::memcpy(&bits, &panels.nibble_values[code], 4);
        bytes[code] = static_cast<std::uint8_t>(bits >> (8 * part));
      }
      tables[part - kFirst] = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
    }
  }
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i mask = _mm256_set1_epi8(0xf);
    pair<0>(_mm256_and_si256(codes, mask), use);
    pair<2>(_mm256_and_si256(_mm256_srli_epi16(codes, 4), mask), use);
  }

 private:
  static constexpr int kFirst = kWide ? 0 : 2;
  // 16 bits of each value from bytes `part` and part + 1: word `first` of a lane low, first + 1 high.
  struct Halves {
    __m256i of[2];
  };
  HWY_INLINE Halves halves(__m256i codes, int part) const {
    const __m256i lows = _mm256_shuffle_epi8(tables[part - kFirst], codes);
    const __m256i highs = _mm256_shuffle_epi8(tables[part + 1 - kFirst], codes);
    return {{_mm256_unpacklo_epi8(lows, highs), _mm256_unpackhi_epi8(lows, highs)}};
  }
  // Words `first` and first + 1 of all lanes.
  template <int first, class Use>
  HWY_INLINE void pair(__m256i codes, const Use& use) const {
    const Halves upper = halves(codes, 2);
    const __m256i mask = _mm256_set1_epi32(-65536);
    __m256i even[2], odd[2];
    for (int i = 0; i < 2; ++i) even[i] = _mm256_slli_epi32(upper.of[i], 16);
    for (int i = 0; i < 2; ++i) odd[i] = _mm256_and_si256(upper.of[i], mask);
    if constexpr (kWide) {
      const Halves lower = halves(codes, 0);
      for (int i = 0; i < 2; ++i) even[i] = _mm256_or_si256(even[i], _mm256_andnot_si256(mask, lower.of[i]));
      for (int i = 0; i < 2; ++i) odd[i] = _mm256_or_si256(odd[i], _mm256_srli_epi32(lower.of[i], 16));
    }
    for (int i = 0; i < 2; ++i) use(first, i, FloatVector{_mm256_castsi256_ps(even[i])});
    for (int i = 0; i < 2; ++i) use(first + 1, i, FloatVector{_mm256_castsi256_ps(odd[i])});
  }
  __m256i tables[4 - kFirst];
};
using DecodeNibble = DecodeNibbleByShuffles<false>;
using DecodeWideNibble = DecodeNibbleByShuffles<true>;
#elif HWY_TARGET == HWY_AVX3
// One permutation of the 16 table entries; it looks at the four lowest bits alone.
struct DecodeNibble {
  static constexpr int kWords = 4, kBytes = 32;
  static constexpr bool kDirect = false;
  explicit DecodeNibble(const Panels& panels) : values(_mm512_loadu_ps(panels.nibble_values)) {
    alignas(64) std::uint16_t words[32] = {};
    for (int i = 0; i < 16; ++i) words[2 * nibble_order(i)] = static_cast<std::uint16_t>(i);
    order = _mm512_load_si512(words);
  }
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m512i codes = _mm512_permutexvar_epi16(order, _mm512_castsi256_si512(packed));
    use(0, 0, FloatVector{_mm512_permutexvar_ps(codes, values)});
    use(1, 0, FloatVector{_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 8), values)});
    use(2, 0, FloatVector{_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), values)});
    use(3, 0, FloatVector{_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 12), values)});
  }

 private:
  __m512 values;
  __m512i order;
};
using DecodeWideNibble = DecodeNibble;
#else
struct DecodeNibble {
  static constexpr int kWords = 4, kBytes = 32;
  static constexpr bool kDirect = false;
  explicit DecodeNibble(const Panels& panels) : values(panels.nibble_values) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
    float decoded[kWords][kLaneCount];
    for (int i = 0; i < kLaneCount; ++i) {
      std::uint16_t word;
      std::memcpy(&word, p + 2 * i, 2);
      for (int k = 0; k < kWords; ++k) decoded[k][nibble_order(i)] = values[word >> nibble_shift(k) & 0xf];
    }
    for (int k = 0; k < kWords; ++k) {
      const auto lanes = load_lanes(decoded[k]);
      for (int i = 0; i < kParts; ++i) use(k, i, lanes.part[i]);
    }
  }

 private:
  const float* values;
};
using DecodeWideNibble = DecodeNibble;
#endif

// Pairs of int8 become pairs of int16, seen as one 32-bit word.
struct DecodeInt8Pairs {
  static constexpr int kWords = 1, kBytes = 32;
  static constexpr bool kDirect = false;
  explicit DecodeInt8Pairs(const Panels&) {}
  template <class Use>
  HWY_INLINE void operator()(const std::uint8_t* p, const Use& use) const {
#if HWY_TARGET == HWY_AVX2
    const auto* codes = reinterpret_cast<const __m128i*>(p);
    for (int i = 0; i < kParts; ++i) use(0, i, IntVector{_mm256_cvtepi8_epi16(_mm_loadu_si128(codes + i))});
#elif HWY_TARGET == HWY_AVX3
    use(0, 0, IntVector{_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))});
#else
    std::int32_t words[kLaneCount];
    const auto* codes = reinterpret_cast<const std::int8_t*>(p);
    for (int i = 0; i < kLaneCount; ++i) {
      words[i] = static_cast<std::int32_t>((static_cast<std::uint32_t>(codes[2 * i]) & 0xffff) |
                                           static_cast<std::uint32_t>(codes[2 * i + 1]) << 16);
    }
    const auto lanes = load_lanes(words);
    for (int i = 0; i < kParts; ++i) use(0, i, lanes.part[i]);
#endif
  }
};

// The scales of group g of a panel as f32.
HWY_INLINE Lanes<float> load_scales(const Panels& panels, std::int64_t panel, std::int64_t g) {
  const std::int64_t at = (panel * panels.groups + g) * kPanelRows;
  const auto* bytes = static_cast<const std::uint8_t*>(panels.scales.raw());
  Lanes<float> out;
  const auto keep = [&out](int, int part, FloatVector value) { out.part[part] = value; };
  switch (panels.scales.dtype()) {
    case DType::kF8E4M3:
      DecodeE4m3{panels}(bytes + at, keep);
      return out;
    case DType::kF8E8M0: {  // neither 0 nor 255: pack_panels() keeps them out
      const hn::Rebind<std::uint8_t, F32> codes;
      for (int i = 0; i < kParts; ++i) {
        const auto exponents = hn::PromoteTo(U32(), hn::LoadU(codes, bytes + at + i * kPartLanes));
        out.part[i] = hn::BitCast(F32(), hn::ShiftLeft<23>(exponents));
      }
      return out;
    }
    case DType::kF16:
      DecodeF16{panels}(bytes + at * 2, keep);
      return out;
    case DType::kBF16: {
      const hn::Rebind<std::uint16_t, F32> shorts;
      for (int i = 0; i < kParts; ++i) {
        const auto codes = hn::LoadU(shorts, reinterpret_cast<const std::uint16_t*>(bytes) + at + i * kPartLanes);
        out.part[i] = hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), codes)));
      }
      return out;
    }
    default:
      return load_lanes(reinterpret_cast<const float*>(bytes) + at);
  }
}

// What is done to decoded codes of a group before they are multiplied; nothing, as a rule.
template <class Decode>
struct Shift {
  HWY_INLINE void load(const Panels&, std::int64_t, std::int64_t) {}
  template <class V>
  HWY_INLINE V operator()(V code, int) const {
    return code;
  }
};
template <class Decode>
constexpr bool kShifts = false;

// fma(code - zero, scale, offset), with those of a group: the whole weight.
template <class Base>
struct Affine : Base {
  using Base::Base;
};
template <class Base>
struct Shift<Affine<Base>> {
  Lanes<float> zero, scale, offset;
  HWY_INLINE void load(const Panels& panels, std::int64_t panel, std::int64_t g) {
    const std::int64_t at = (panel * panels.groups + g) * kPanelRows;
    DecodeInt8{panels}(panels.zeros.bits<std::uint8_t>() + at,
                       [this](int, int part, FloatVector value) { zero.part[part] = value; });
    scale = load_scales(panels, panel, g);
    offset =
        panels.offsets.defined() ? load_lanes(static_cast<const float*>(panels.offsets.raw()) + at) : set_lanes(0.0f);
  }
  HWY_INLINE FloatVector operator()(FloatVector code, int part) const {
    return fma_vector(hn::Sub(code, zero.part[part]), scale.part[part], offset.part[part]);
  }
};
template <class Base>
constexpr bool kShifts<Affine<Base>> = true;

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
