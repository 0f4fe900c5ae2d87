#pragma once
// compressed-tensors' pack-quantized codes: each code plus 2^(bits - 1), `bits` a code, least significant first, along
// a row, in I32 words; and ModelOpt's pairs of rows. Sources: compressed_tensors/compressors/pack_quantized/helpers.py,
// modelopt/torch/export/quant_utils.py.

#include "tensor/qtensor.h"

namespace halftone {

// [rows, ceil(cols * bits / 32)] I32 from a payload of kInt4 or kInt8 (shapes as in QTensor). Unused bits are 0.
Tensor pack_int32(const Tensor& payload, Element element, std::int64_t cols);
// The inverse: U8 [rows, ceil(cols / 2)] for kInt4 (the unused nibble is 0), I8 [rows, cols] for kInt8.
Tensor unpack_int32(const Tensor& packed, Element element, std::int64_t cols);

// Zero points, packed along dimension 0: I32 [ceil(rows * bits / 32), cols] from I8 [rows, cols].
Tensor pack_int32_rows(const Tensor& zeros, Element element);
// The inverse.
Tensor unpack_int32_rows(const Tensor& packed, Element element, std::int64_t rows);

// ModelOpt's INT4: U8 [rows / 2, cols], rows 2i (low nibble) and 2i + 1 in a byte, from a kInt4 payload. rows is even.
Tensor pack_row_pairs(const Tensor& payload, std::int64_t rows, std::int64_t cols);
Tensor unpack_row_pairs(const Tensor& packed);

// bitsandbytes' pairs of 4-bit codes have the first one high: U8, the two halves of each byte exchanged.
Tensor swap_nibbles(const Tensor& bytes);

// compressed-tensors' MXFP6: four codes of kE2M3 in three bytes, least significant first. cols is a multiple of 4.
// U8 [rows, cols * 3 / 4] from U8 [rows, cols]; unused upper bits of a code are dropped.
Tensor pack_six_bits(const Tensor& payload);
// The inverse.
Tensor unpack_six_bits(const Tensor& packed);

}  // namespace halftone
