#pragma once
// compressed-tensors' pack-quantized codes: each code plus 2^(bits - 1), `bits` a code, least significant first, along
// a row, in I32 words. Source: compressed_tensors/compressors/pack_quantized/helpers.py.

#include "tensor/qtensor.h"

namespace halftone {

// [rows, ceil(cols * bits / 32)] I32 from a payload of kInt4 or kInt8 (shapes as in QTensor). Unused bits are 0.
Tensor pack_int32(const Tensor& payload, Element element, std::int64_t cols);
// The inverse: U8 [rows, ceil(cols / 2)] for kInt4 (the unused nibble is 0), I8 [rows, cols] for kInt8.
Tensor unpack_int32(const Tensor& packed, Element element, std::int64_t cols);

}  // namespace halftone
