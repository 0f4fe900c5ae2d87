#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/ggml_blocks.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <cmath>

#include "ops/ggml_blocks.h"
#include "ops/ggml_parts.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace halftone::ggml;

using F = hn::CappedTag<float, 16>;
using I = hn::RebindToSigned<F>;
using Vector = hn::Vec<F>;
constexpr F kFloats;
constexpr I kInts;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(kFloats));
constexpr int kVectors = kSmall / kLanes;  // of a block of 32

HWY_INLINE Vector floats(float x) { return hn::Set(kFloats, x); }

// clamp(nearest(x), 0, 15)
HWY_INLINE hn::Vec<I> code_of(Vector x) {
  const auto bits = hn::BitCast(kInts, hn::Add(x, floats(kMagic)));
  const auto nearest = hn::Sub(hn::And(bits, hn::Set(kInts, kFraction)), hn::Set(kInts, kHalf));
  return hn::Min(hn::Max(nearest, hn::Zero(kInts)), hn::Set(kInts, kMaxCode));
}

// Halves away from zero; |x| below 2^23.
HWY_INLINE Vector round_away(Vector x) {
  const auto whole = hn::Trunc(x);
  const auto half_or_more = hn::Ge(hn::Abs(hn::Sub(x, whole)), floats(0.5f));
  return hn::Add(whole, hn::IfThenElseZero(half_or_more, hn::CopySign(floats(1), x)));
}

void blocks_8(const float* x, std::int64_t count, std::uint8_t* blocks) {
  const hn::Rebind<std::int8_t, F> bytes;
  for (; count > 0; --count, x += kSmall, blocks += kQ8Bytes) {
    auto most = hn::Zero(kFloats);
    for (int v = 0; v < kVectors; ++v) most = hn::Max(most, hn::Abs(hn::LoadU(kFloats, x + v * kLanes)));
    const float d = hn::GetLane(hn::MaxOfLanes(kFloats, most)) / 127, inverse = d != 0 ? 1 / d : 0;
    store_f16(d, blocks);
    // products with an infinite inverse are no numbers, and their codes 0
    const auto factor = floats(std::isfinite(inverse) ? inverse : 0);
    for (int v = 0; v < kVectors; ++v) {
      const auto place = round_away(hn::Mul(hn::LoadU(kFloats, x + v * kLanes), factor));
      hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(kInts, place)), bytes,
                 reinterpret_cast<std::int8_t*>(blocks + 2 + v * kLanes));
    }
  }
}

// The first value of the largest magnitude; 0 of zeros of any sign.
HWY_INLINE float value_of_most(const float* x) {
  auto most = hn::Zero(kFloats);
  for (int v = 0; v < kVectors; ++v) most = hn::Max(most, hn::Abs(hn::LoadU(kFloats, x + v * kLanes)));
  most = hn::MaxOfLanes(kFloats, most);
  for (int v = 0; v < kVectors; ++v) {
    const auto at = hn::FindFirstTrue(kFloats, hn::Eq(hn::Abs(hn::LoadU(kFloats, x + v * kLanes)), most));
    if (at >= 0) return x[v * kLanes + at] + 0.0f;
  }
  return 0;
}

void blocks_4(const float* x, std::int64_t count, std::uint8_t* blocks) {
  const hn::Rebind<std::uint8_t, F> bytes;
  for (; count > 0; --count, x += kSmall, blocks += kQ4Bytes) {
    const float d = value_of_most(x) / -8, inverse = d != 0 ? 1 / d : 0;
    store_f16(d, blocks);
    if (!std::isfinite(inverse)) {
      std::fill_n(blocks + 2, kSmall / 2, std::uint8_t{0});
      continue;
    }
    const auto code = [&](const float* at) HWY_ATTR {
      const auto place = hn::Add(hn::Mul(hn::LoadU(kFloats, at), floats(inverse)), floats(8.5f));
      return hn::Min(hn::ConvertTo(kInts, place), hn::Set(kInts, kMaxCode));
    };
    for (int v = 0; v < kSmall / 2; v += kLanes) {
      const auto pair = hn::Or(code(x + v), hn::ShiftLeft<4>(code(x + v + kSmall / 2)));
      hn::StoreU(hn::DemoteTo(bytes, pair), bytes, blocks + 2 + v);
    }
  }
}

// One part a lane: weight i of each in vector i.
struct Lanes {
  HWY_ALIGN float x[kSmall * kLanes];
  HWY_ALIGN float w[kSmall * kLanes];
  HWY_ALIGN float codes[kSmall * kLanes];  // of the step at hand
};

HWY_INLINE Vector at(const float* values, int i) { return hn::Load(kFloats, values + i * kLanes); }

HWY_INLINE Vector to_codes(Vector inverse, Vector x, Vector base) {
  return hn::ConvertTo(kFloats, code_of(hn::Mul(inverse, hn::Sub(x, base))));
}

HWY_INLINE Vector error_of(const Lanes& lanes, Vector scale, Vector minimum) {
  auto error = hn::Zero(kFloats);
  for (int i = 0; i < kSmall; ++i) {
    const auto value = hn::Add(hn::Mul(scale, at(lanes.codes, i)), minimum);
    const auto difference = hn::Sub(value, at(lanes.x, i));
    error = hn::Add(error, hn::Mul(at(lanes.w, i), hn::Mul(difference, difference)));
  }
  return error;
}

struct Search {
  Vector scale, minimum, inverse, base, error;  // the best so far
};

// A step of the search: codes by `inverse`, the line of least squares through them, and the better of it and the best.
HWY_INLINE void try_step(Lanes& lanes, Vector inverse, Vector sum_w, Vector sum_x, Search& best) {
  const auto base = best.minimum;
  auto sum_l = hn::Zero(kFloats), sum_l2 = sum_l, sum_xl = sum_l;
  for (int i = 0; i < kSmall; ++i) {
    const auto x = at(lanes.x, i), code = to_codes(inverse, x, base), weighted = hn::Mul(at(lanes.w, i), code);
    hn::Store(code, kFloats, lanes.codes + i * kLanes);
    sum_l = hn::Add(sum_l, weighted);
    sum_l2 = hn::Add(sum_l2, hn::Mul(weighted, code));
    sum_xl = hn::Add(sum_xl, hn::Mul(weighted, x));
  }
  const auto determinant = hn::Sub(hn::Mul(sum_w, sum_l2), hn::Mul(sum_l, sum_l));
  auto scale = hn::Div(hn::Sub(hn::Mul(sum_w, sum_xl), hn::Mul(sum_x, sum_l)), determinant);
  auto minimum = hn::Div(hn::Sub(hn::Mul(sum_l2, sum_x), hn::Mul(sum_l, sum_xl)), determinant);
  const auto above = hn::Gt(minimum, hn::Zero(kFloats));
  scale = hn::IfThenElse(above, hn::Div(sum_xl, sum_l2), scale);
  minimum = hn::IfThenZeroElse(above, minimum);
  const auto error = error_of(lanes, scale, minimum);
  const auto better = hn::And(hn::Gt(determinant, hn::Zero(kFloats)), hn::Lt(error, best.error));
  best.error = hn::IfThenElse(better, error, best.error);
  best.scale = hn::IfThenElse(better, scale, best.scale);
  best.minimum = hn::IfThenElse(better, minimum, best.minimum);
  best.inverse = hn::IfThenElse(better, inverse, best.inverse);
  best.base = hn::IfThenElse(better, base, best.base);
}

struct Sums {
  Vector least, most, w, x;
};

// The weights of the search, and their sums.
HWY_INLINE Sums weigh(Lanes& lanes) {
  auto sum_x2 = hn::Zero(kFloats);
  for (int i = 0; i < kSmall; ++i) sum_x2 = hn::Add(sum_x2, hn::Mul(at(lanes.x, i), at(lanes.x, i)));
  const auto rms = hn::Sqrt(hn::Div(sum_x2, floats(kSmall)));
  for (int i = 0; i < kSmall; ++i) {
    hn::Store(hn::Add(rms, hn::Abs(at(lanes.x, i))), kFloats, lanes.w + i * kLanes);
  }
  Sums sums{at(lanes.x, 0), at(lanes.x, 0), at(lanes.w, 0), hn::Mul(at(lanes.w, 0), at(lanes.x, 0))};
  for (int i = 1; i < kSmall; ++i) {
    const auto x = at(lanes.x, i), w = at(lanes.w, i);
    sums.least = hn::Min(sums.least, x);
    sums.most = hn::Max(sums.most, x);
    sums.w = hn::Add(sums.w, w);
    sums.x = hn::Add(sums.x, hn::Mul(w, x));
  }
  sums.least = hn::Min(sums.least, hn::Zero(kFloats));
  return sums;
}

// fit_part() of kLanes parts.
HWY_INLINE void fit_lanes(Lanes& lanes, Part* parts) {
  const Sums sums = weigh(lanes);
  const auto flat = hn::Eq(sums.most, sums.least);
  const auto first = hn::Div(floats(kMaxCode), hn::Sub(sums.most, sums.least));
  for (int i = 0; i < kSmall; ++i) {
    hn::Store(to_codes(first, at(lanes.x, i), sums.least), kFloats, lanes.codes + i * kLanes);
  }
  Search best{hn::Div(floats(1), first), sums.least, first, sums.least, hn::Zero(kFloats)};
  best.error = error_of(lanes, best.scale, best.minimum);
  for (int step = 0; step <= kSteps; ++step) {
    const auto span = hn::Sub(sums.most, best.minimum);
    const float steps = kFirstStep + kStepSize * static_cast<float>(step) + kMaxCode;
    try_step(lanes, hn::Div(floats(steps), span), sums.w, sums.x, best);
  }
  HWY_ALIGN float scale[kLanes], minimum[kLanes], inverse[kLanes], base[kLanes];
  hn::Store(hn::IfThenZeroElse(flat, best.scale), kFloats, scale);
  hn::Store(hn::IfThenElse(flat, sums.least, best.minimum), kFloats, minimum);
  hn::Store(hn::IfThenZeroElse(flat, best.inverse), kFloats, inverse);
  hn::Store(hn::IfThenZeroElse(flat, best.base), kFloats, base);
  for (int p = 0; p < kLanes; ++p) parts[p] = {scale[p], minimum[p], inverse[p], base[p]};
}

// Codes of a pair of parts, whose weights i share a byte.
HWY_INLINE void store_pair(const float* x, const Part* parts, const PartRule* rules, std::uint8_t* nibbles) {
  const hn::Rebind<std::uint8_t, F> bytes;
  const auto codes = [&](int p, int i) HWY_ATTR {
    const auto v = hn::LoadU(kFloats, x + p * kSmall + i);
    if (rules[p].scale == 0) return code_of(hn::Mul(floats(parts[p].inverse), hn::Sub(v, floats(parts[p].base))));
    return code_of(hn::Div(hn::Add(v, floats(rules[p].shift)), floats(rules[p].scale)));
  };
  for (int i = 0; i < kSmall; i += kLanes) {
    hn::StoreU(hn::DemoteTo(bytes, hn::Or(codes(0, i), hn::ShiftLeft<4>(codes(1, i)))), bytes, nibbles + i);
  }
}

// Blocks whose parts fill vectors: one, or two of them.
constexpr int kTogether = std::max(1, kLanes / kParts);

void blocks_4k(const float* x, std::int64_t count, std::uint8_t* blocks) {
  Lanes lanes;
  Part parts[kTogether * kParts];
  PartRule rules[kParts];
  for (std::int64_t done = 0; done < count; done += kTogether) {
    const int left = static_cast<int>(std::min<std::int64_t>(kTogether, count - done));
    for (int first = 0; first < kTogether * kParts; first += kLanes) {
      for (int p = 0; p < kLanes; ++p) {
        // beyond the last block: its parts again
        const float* part = x + (done * kParts + (first + p) % (left * kParts)) * kSmall;
        for (int i = 0; i < kSmall; ++i) lanes.x[i * kLanes + p] = part[i];
      }
      fit_lanes(lanes, parts + first);
    }
    for (int b = 0; b < left; ++b) {
      const float* values = x + (done + b) * kLarge;
      std::uint8_t* block = blocks + (done + b) * kLargeBytes;
      const Part* own = parts + b * kParts;
      store_parts(own, block, rules);
      for (int p = 0; p < kParts; p += 2)
        store_pair(values + p * kSmall, own + p, rules + p, block + 16 + p / 2 * kSmall);
    }
  }
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(blocks_8);
HWY_EXPORT(blocks_4);
HWY_EXPORT(blocks_4k);

void round_q8_0(const float* x, std::int64_t count, std::uint8_t* blocks) {
  HWY_DYNAMIC_DISPATCH(blocks_8)(x, count, blocks);
}

void round_q4_0(const float* x, std::int64_t count, std::uint8_t* blocks) {
  HWY_DYNAMIC_DISPATCH(blocks_4)(x, count, blocks);
}

void round_q4_k(const float* x, std::int64_t count, std::uint8_t* blocks) {
  HWY_DYNAMIC_DISPATCH(blocks_4k)(x, count, blocks);
}

}  // namespace halftone
#endif
