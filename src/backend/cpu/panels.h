#pragma once
// The layout of a packed weight. The rows of W (the outputs) are cut into panels of 16; in a panel k runs outermost and
// the 16 outputs lie side by side, one in each lane of a vector. A kernel then computes each output as one chain of
// fused multiply-adds over k: the order of linear.h on every instruction set, whatever its vector length.

#include <cstdint>

#include "ops/linear_kernels.h"

namespace halftone {

constexpr std::int64_t kPanelRows = 16;
// K is padded with zero codes to a multiple of this, so that the decoders need no tails.
constexpr std::int64_t kColsMultiple = 4;

// How the codes of a panel lie in memory; a word below is what one lane receives at once.
enum class PanelStorage : std::uint8_t {
  kF32,        // [K][16] f32
  kF16,        // [K][16] f16; also the values of e5m2, which it has
  kBF16,       // [K / 2][16] pairs of bf16, the even k in the low half: one load and one instruction a value
  kInt8,       // [K][16] int8
  kE4M3,       // [K][16] e4m3; also the values of e3m2 and e2m3, which it has
  kNibble,     // [K / 4][16] four codes of 4 bits, see nibble_order() and nibble_shift()
  kInt8Pairs,  // [K / 2][16][2] int8, multiplied as int16 pairs
  kInt8Quads,  // [K / 4][16][4] int8, multiplied by VNNI
};

// A panel of kNibble: the 16-bit word at position i holds the output nibble_order(i), and k = 4 j + i in the bits from
// nibble_shift(i). AVX2 then unpacks the bytes of a 256-bit vector into lanes that are already in order.
constexpr int nibble_order(int i) { return (i & 3) | (i & 4) << 1 | (i & 8) >> 1; }
constexpr int nibble_shift(int k) { return (k & 1) << 3 | (k & 2) << 1; }

struct Panels {
  PanelStorage storage = PanelStorage::kF32;
  std::int64_t rows = 0, cols = 0;
  std::int64_t padded_cols = 0;
  std::int64_t count = 0;  // panels

  Tensor codes;  // [count] panels of panel_bytes
  std::int64_t panel_bytes = 0;
  float nibble_values[16] = {};  // kNibble: what a code means
  bool nibbles_in_bf16 = true;   // each of these exactly

  // Scales as they were stored, [count][groups][16]; one group where a scale covers a row.
  bool has_scales = false;
  Tensor scales;
  Tensor zeros;    // int8, as the scales, where the weights are asymmetric (perhaps all 0); else undefined
  Tensor offsets;  // f32, as the scales, where the weights have them
  std::int64_t groups = 1;
  std::int64_t group = 0;  // k under one scale, a multiple of kColsMultiple

  Tensor factor, bias;  // [count * 16] f32
  Tensor start;         // kInt8Quads: [count * 16] int32, -128 * sum_k W, for inputs that are stored with 128 added

  // Whether sums of codes are multiplied by scales, rather than codes.
  bool folds_scales() const { return has_scales && !zeros.defined(); }
  const std::uint8_t* panel(std::int64_t p) const { return codes.bits<std::uint8_t>() + p * panel_bytes; }
  std::int64_t nbytes() const;
};

// The storage that fits an element; a weight with NaN codes of e4m3 is widened to bf16, which can hold them.
PanelStorage panel_storage(const LinearSource& source);
Panels pack_panels(const LinearSource& source, PanelStorage storage, Stream& stream);

}  // namespace halftone
