#pragma once
// How Blackwell's products of E2M1 codes with scales of blocks want both to lie, and how codes and scales follow from inputs
// that have been multiplied with each other already: functions for kernels and for the host, which tests them without a
// Blackwell. Sources: cuBLAS 13, "1D Block Scaling Factors Layout"; PTX ISA 9.0, mma.m16n8k64 and "Block Scaling".

#include <cstdint>
#include <initializer_list>

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/e8m0.h"

namespace halftone::cuda::fp4 {

// Scales of one byte lie in tiles of 128 rows and four blocks of inputs; tiles of the same rows follow one another.
constexpr std::int64_t kTileRows = 128, kTileScales = 4, kTileBytes = kTileRows * kTileScales;

constexpr std::int64_t tiles_of(std::int64_t count, std::int64_t unit) { return (count + unit - 1) / unit; }
// Of `count` scales a row.
constexpr std::int64_t scale_bytes(std::int64_t rows, std::int64_t count) {
  return tiles_of(rows, kTileRows) * tiles_of(count, kTileScales) * kTileBytes;
}
constexpr std::int64_t scale_place(std::int64_t row, std::int64_t scale, std::int64_t count) {
  const std::int64_t tile = row / kTileRows * tiles_of(count, kTileScales) + scale / kTileScales;
  const std::int64_t in_tile = row % 32 * 16 + row % kTileRows / 32 * 4 + scale % kTileScales;
  return tile * kTileBytes + in_tile;
}

// Eight codes of a word of start_pack_nibble_tiles(), the even ones in its low half, in ascending order.
constexpr std::uint32_t ascending(std::uint32_t word) {
  const auto spread = [](std::uint32_t half) {
    const std::uint32_t bytes = (half | half << 8) & 0x00ff00ffu;
    return (bytes | bytes << 4) & 0x0f0f0f0fu;
  };
  return spread(word & 0xffffu) | spread(word >> 16) << 4;
}

// The code of a scale of x [count], whose elements are E2M1 codes times one scale of E4M3 (mx: E8M0) from 2^-120 on: any that
// gives all of them. A block's largest code is 6, 4 or 3, as block_scales.h rounds. NaN for a block that is not finite.
constexpr std::uint8_t scale_of_block(const float* x, int count, bool mx) {
  constexpr float kLargestFloat = 3.402823466e38f;
  float amax = 0;
  bool finite = true;
  for (int i = 0; i < count; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    finite = finite && magnitude <= kLargestFloat;
    amax = magnitude > amax ? magnitude : amax;
  }
  if (!finite) return mx ? e8m0::kNan : e4m3::kNan;
  for (const float largest : {6.0f, 4.0f, 3.0f}) {
    const std::uint8_t code = mx ? e8m0::encode(amax / largest) : e4m3::encode_saturated(amax / largest);
    const float scale = mx ? e8m0::decode(code) : e4m3::decode(code);
    bool exact = scale * largest == amax;
    for (int i = 0; exact && i < count; ++i) exact = e2m1::decode(e2m1::encode(x[i] / scale)) * scale == x[i];
    if (exact) return code;
  }
  return 0;  // zeros, and what is too small
}

// The codes of x [8] under that scale, the first in the lowest bits.
constexpr std::uint32_t codes_of_block(const float* x, std::uint8_t scale_code, bool mx) {
  const float scale = mx ? e8m0::decode(scale_code) : e4m3::decode(scale_code);
  std::uint32_t codes = 0;
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t code = scale > 0 ? e2m1::encode(x[i] / scale) : 0;  // NaN: the scale is it
    codes |= code << (4 * i);
  }
  return codes;
}

// Where the operands of mma.m16n8k64 lie in a warp: eight codes a register, ascending along K from a_first() or b_first() on;
// two scales a register, of inputs 0 .. 31 in the lowest byte.
constexpr int a_row(int lane, int reg) { return lane / 4 + reg % 2 * 8; }
constexpr int a_first(int lane, int reg) { return lane % 4 * 8 + reg / 2 * 32; }
constexpr int b_col(int lane) { return lane / 4; }
constexpr int b_first(int lane, int reg) { return lane % 4 * 8 + reg * 32; }
constexpr int d_row(int lane, int i) { return lane / 4 + i / 2 * 8; }
constexpr int d_col(int lane, int i) { return lane % 4 * 2 + i % 2; }
// The row and the column whose scales a lane loads. Of the lanes of four the first two give rows, the first one columns.
constexpr int a_scale_row(int lane) { return lane / 4 + lane % 2 * 8; }
constexpr int b_scale_col(int lane) { return lane / 4; }

}  // namespace halftone::cuda::fp4
