// Bicubic resampling with SIMD. A weight is split as high * 2^12 + low so that one instruction sums pairs of 16-bit
// products. int32 sums wrap, so the recombined sum has exactly the reference's bits.

#include "vision/resample.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "vision/codec.h"
#include "vision/resample_weights.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vision/resample.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halftone {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

void resize_width(const Picture& picture, ThreadPool&, Picture& out) {
  out = resize_width_reference(picture, out.width);
}
void resize_height(const Picture& picture, ThreadPool&, Picture& out) {
  out = resize_height_reference(picture, out.height);
}

#else

namespace hn = hwy::HWY_NAMESPACE;

// At most 32 bytes: the 16 bytes loaded at a pixel hold the four taps that two 128-bit blocks take.
using Bytes = hn::CappedTag<std::uint8_t, 32>;
using Halves = hn::Repartition<std::int16_t, Bytes>;
using Words = hn::Repartition<std::int32_t, Bytes>;
using ByteVector = hn::Vec<Bytes>;
using HalfVector = hn::Vec<Halves>;
using WordVector = hn::Vec<Words>;
constexpr Bytes kBytes;
constexpr Halves kHalves;
constexpr Words kWords;

constexpr int kLowBits = 12;
constexpr std::int32_t kLowMask = (1 << kLowBits) - 1;

std::int16_t high_part(std::int32_t weight) { return static_cast<std::int16_t>(weight >> kLowBits); }
std::int16_t low_part(std::int32_t weight) { return static_cast<std::int16_t>(weight & kLowMask); }

// Sums of sample pairs times weight pairs, one int32 lane for each pair.
struct PairSums {
  WordVector high, high_rest, low, low_rest;

  // An implicit constructor would not be compiled for the target.
  HWY_INLINE PairSums()
      : high(hn::Zero(kWords)), high_rest(hn::Zero(kWords)), low(hn::Zero(kWords)), low_rest(hn::Zero(kWords)) {}

  HWY_INLINE void add(HalfVector samples, HalfVector high_weights, HalfVector low_weights) {
    high = hn::ReorderWidenMulAccumulate(kWords, samples, high_weights, high, high_rest);
    low = hn::ReorderWidenMulAccumulate(kWords, samples, low_weights, low, low_rest);
  }

  HWY_INLINE WordVector total() const {
    const auto high_sum = hn::RearrangeToOddPlusEven(high, high_rest);
    return hn::Add(hn::ShiftLeft<kLowBits>(high_sum), hn::RearrangeToOddPlusEven(low, low_rest));
  }
};

template <class V>
HWY_INLINE V to_8_bits(V sum) {
  const hn::DFromV<V> d;
  const auto value = hn::ShiftRight<kWeightBits>(hn::Add(sum, hn::Set(d, kOneHalf)));
  return hn::Min(hn::Max(value, hn::Zero(d)), hn::Set(d, 255));
}

// The weights of a horizontal pass in the order in which they are multiplied: for each output, steps of taps_per_step
// taps, and for each step one vector of high parts and one of low parts, each block [w0 w1 w0 w1 w0 w1 0 0].
std::vector<std::int16_t> arrange_for_rows(const BicubicWeights& weights, std::int64_t steps) {
  const std::size_t lanes = hn::Lanes(kHalves), blocks = lanes / 8;
  std::vector<std::int16_t> arranged(weights.windows.size() * static_cast<std::size_t>(steps) * 2 * lanes);
  std::int16_t* out = arranged.data();
  for (std::size_t output = 0; output < weights.windows.size(); ++output) {
    const auto taps = weights.of(static_cast<std::int64_t>(output));
    for (std::size_t first = 0; first < static_cast<std::size_t>(steps) * 2 * blocks; first += 2 * blocks) {
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const std::size_t tap = first + lane / 8 * 2 + lane % 2;
        const std::int32_t weight = tap < taps.size() && lane % 8 < 6 ? taps[tap] : 0;
        out[lane] = high_part(weight);
        out[lanes + lane] = low_part(weight);
      }
      out += 2 * lanes;
    }
  }
  return arranged;
}

// Moves the pixels 2b and 2b + 1 of 16 bytes to block b as zero-extended pairs [r r' g g' b b' 0 0].
ByteVector pixel_pair_indices() {
  HWY_ALIGN std::array<std::uint8_t, 64> indices;
  constexpr std::uint8_t kZero = 0x80;
  for (std::size_t i = 0; i < hn::Lanes(kBytes); ++i) {
    const std::size_t half = i / 2, block = i / 16, channel = half % 8 / 2, pixel = 2 * block + half % 2;
    indices[i] = i % 2 == 0 && channel < 3 ? static_cast<std::uint8_t>(3 * pixel + channel) : kZero;
  }
  return hn::Load(kBytes, indices.data());
}

// [r g b _] of each block, added over the blocks.
HWY_INLINE hn::Vec128<std::int32_t> add_blocks(WordVector sums) {
#if HWY_TARGET <= HWY_AVX2  // two blocks
  return hn::Add(hn::LowerHalf(sums), hn::UpperHalf(hn::Half<Words>(), sums));
#else
  return sums;
#endif
}

// row: the pixels of one input row and at least 32 readable bytes behind them. out: [outputs, 3] and one byte more.
void resize_row(const std::uint8_t* row, const BicubicWeights& weights, const std::int16_t* arranged,
                std::int64_t steps, std::uint8_t* out) {
  const std::size_t lanes = hn::Lanes(kHalves);
  const std::size_t taps_per_step = lanes / 4;
  const auto indices = pixel_pair_indices();
  const hn::FixedTag<std::uint8_t, 4> pixel;
  for (const BicubicWeights::Window& window : weights.windows) {
    PairSums sums;
    const std::uint8_t* from = row + 3 * window.first;
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto samples = hn::BitCast(kHalves, hn::TableLookupBytesOr0(hn::LoadDup128(kBytes, from), indices));
      sums.add(samples, hn::LoadU(kHalves, arranged), hn::LoadU(kHalves, arranged + lanes));
      arranged += 2 * lanes;
      from += 3 * taps_per_step;
    }
    hn::StoreU(hn::DemoteTo(pixel, to_8_bits(add_blocks(sums.total()))), pixel, out);
    out += 3;
  }
}

// Row `output` of a vertical pass for the columns [column, column + lanes).
HWY_INLINE void resize_column_block(const std::uint8_t* rows, std::int64_t row_bytes,
                                    std::span<const std::int32_t> taps, std::uint8_t* out) {
  PairSums sums[4];
  const auto zero = hn::Zero(kBytes);
  for (std::size_t tap = 0; tap < taps.size(); tap += 2) {
    const bool has_second = tap + 1 < taps.size();
    const std::int32_t first_weight = taps[tap], second_weight = has_second ? taps[tap + 1] : 0;
    const auto high = hn::BitCast(
        kHalves,
        hn::Set(kWords, static_cast<std::int32_t>(static_cast<std::uint16_t>(high_part(first_weight)) |
                                                  static_cast<std::uint32_t>(high_part(second_weight)) << 16)));
    const auto low = hn::BitCast(
        kHalves, hn::Set(kWords, static_cast<std::int32_t>(static_cast<std::uint16_t>(low_part(first_weight)) |
                                                           static_cast<std::uint32_t>(low_part(second_weight)) << 16)));
    const auto first = hn::LoadU(kBytes, rows);
    const auto second = has_second ? hn::LoadU(kBytes, rows + row_bytes) : zero;
    const auto lower = hn::InterleaveLower(kBytes, first, second), upper = hn::InterleaveUpper(kBytes, first, second);
    sums[0].add(hn::BitCast(kHalves, hn::InterleaveLower(kBytes, lower, zero)), high, low);
    sums[1].add(hn::BitCast(kHalves, hn::InterleaveUpper(kBytes, lower, zero)), high, low);
    sums[2].add(hn::BitCast(kHalves, hn::InterleaveLower(kBytes, upper, zero)), high, low);
    sums[3].add(hn::BitCast(kHalves, hn::InterleaveUpper(kBytes, upper, zero)), high, low);
    rows += 2 * row_bytes;
  }
  // Column 4q + r of a block is in lane r of sums[q]; packed as byte q of word r it goes from byte 4r + q to 4q + r.
  auto packed = to_8_bits(sums[0].total());
  packed = hn::Or(packed, hn::ShiftLeft<8>(to_8_bits(sums[1].total())));
  packed = hn::Or(packed, hn::ShiftLeft<16>(to_8_bits(sums[2].total())));
  packed = hn::Or(packed, hn::ShiftLeft<24>(to_8_bits(sums[3].total())));
  HWY_ALIGN static constexpr std::uint8_t kTranspose[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  hn::StoreU(hn::TableLookupBytes(hn::BitCast(kBytes, packed), hn::LoadDup128(kBytes, kTranspose)), kBytes, out);
}

void resize_width(const Picture& picture, ThreadPool& pool, Picture& out) {
  const BicubicWeights weights = bicubic_weights(picture.width, out.width);
  std::int64_t longest = 0;
  for (const auto& window : weights.windows) longest = std::max(longest, window.count);
  const auto taps_per_step = static_cast<std::int64_t>(hn::Lanes(kHalves) / 4);
  const std::int64_t steps = (longest + taps_per_step - 1) / taps_per_step;
  const std::vector<std::int16_t> arranged = arrange_for_rows(weights, steps);
  constexpr std::int64_t kRowsPerTask = 16, kSlack = 32;
  const std::int64_t in_bytes = picture.width * 3, out_bytes = out.width * 3;
  pool.parallel_for((out.height + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
    std::vector<std::uint8_t> row(static_cast<std::size_t>(in_bytes + steps * taps_per_step * 3 + kSlack));
    std::vector<std::uint8_t> resized(static_cast<std::size_t>(out_bytes + 1));
    const std::int64_t end = std::min(out.height, (task + 1) * kRowsPerTask);
    for (std::int64_t y = task * kRowsPerTask; y < end; ++y) {
      std::memcpy(row.data(), picture.rgb.data() + y * in_bytes, static_cast<std::size_t>(in_bytes));
      resize_row(row.data(), weights, arranged.data(), steps, resized.data());
      std::memcpy(out.rgb.data() + y * out_bytes, resized.data(), static_cast<std::size_t>(out_bytes));
    }
  });
}

void resize_output_row(const std::uint8_t* rows, std::int64_t row_bytes, std::span<const std::int32_t> taps,
                       std::uint8_t* out) {
  const auto block = static_cast<std::int64_t>(hn::Lanes(kBytes));
  if (row_bytes < block) {
    for (std::int64_t i = 0; i < row_bytes; ++i) {
      std::int32_t sum = kOneHalf;
      for (std::size_t tap = 0; tap < taps.size(); ++tap) {
        sum += rows[static_cast<std::int64_t>(tap) * row_bytes + i] * taps[tap];
      }
      out[i] = round_to_8_bits(sum);
    }
    return;
  }
  for (std::int64_t i = 0; i + block < row_bytes; i += block) {
    resize_column_block(rows + i, row_bytes, taps, out + i);
  }
  resize_column_block(rows + row_bytes - block, row_bytes, taps,
                      out + row_bytes - block);  // may overlap the one before
}

void resize_height(const Picture& picture, ThreadPool& pool, Picture& out) {
  const BicubicWeights weights = bicubic_weights(picture.height, out.height);
  const std::int64_t row_bytes = picture.width * 3;
  pool.parallel_for(out.height, [&](std::int64_t y) {
    const std::uint8_t* rows = picture.rgb.data() + weights.windows[static_cast<std::size_t>(y)].first * row_bytes;
    resize_output_row(rows, row_bytes, weights.of(y), out.rgb.data() + y * row_bytes);
  });
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace halftone
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(resize_width);
HWY_EXPORT(resize_height);

namespace {

Picture with_width(const Picture& picture, std::int64_t width, ThreadPool& pool) {
  Picture resized = blank_picture(width, picture.height);
  HWY_DYNAMIC_DISPATCH(resize_width)(picture, pool, resized);
  return resized;
}

Picture with_height(const Picture& picture, std::int64_t height, ThreadPool& pool) {
  Picture resized = blank_picture(picture.width, height);
  HWY_DYNAMIC_DISPATCH(resize_height)(picture, pool, resized);
  return resized;
}

}  // namespace

Picture resize_bicubic(const Picture& picture, std::int64_t width, std::int64_t height, ThreadPool& pool) {
  require(width > 0 && height > 0, "resize_bicubic", "expected a positive size, found {} x {}", width, height);
  require(picture.width > 0 && picture.height > 0, "resize_bicubic",
          "expected a picture of positive size, found {} x {}", picture.width, picture.height);
  if (width == picture.width && height == picture.height) return picture;
  if (width == picture.width) return with_height(picture, height, pool);
  if (height == picture.height) return with_width(picture, width, pool);
  if (resizes_height_first(picture, width, height)) return with_width(with_height(picture, height, pool), width, pool);
  return with_height(with_width(picture, width, pool), height, pool);
}

}  // namespace halftone
#endif
