#pragma once
// AutoAWQ's and GPTQ's codes: matrices transposed to [inputs, outputs], unsigned codes (ours plus 2^(bits - 1)),
// several to an I32 word, the first of a word in the lowest bits. Sources: AutoAWQ awq/modules/linear/gemm.py and
// utils/packing_utils.py, GPTQModel nn_modules/qlinear.

#include "tensor/qtensor.h"

namespace halftone {

// Which of eight neighbours stands at which nibble of a word.
enum class WordOrder : std::uint8_t {
  kPlain,  // 0 1 2 3 4 5 6 7
  kAwq,    // 0 2 4 6 1 3 5 7
};

// Bits of a code: kInt4 or kInt8.
int code_bits(Element element);

// Unsigned codes U8 [cols, rows] of a kInt4 or kInt8 payload of the shape [rows, cols].
Tensor transposed_codes(const QTensor& q);
// The inverse: the payload of `element` from U8 [cols, rows].
Tensor payload_from_transposed(const Tensor& codes, Element element);

// U8 [n, m] -> I32 [n, m * bits / 32]: the codes of a row share words. m must be a multiple of 32 / bits.
Tensor pack_rows(const Tensor& codes, int bits, WordOrder order);
Tensor unpack_rows(const Tensor& words, int bits, WordOrder order);
// U8 [n, m] -> I32 [n * bits / 32, m]: the codes of a column share words. n must be a multiple of 32 / bits.
Tensor pack_columns(const Tensor& codes, int bits);
Tensor unpack_columns(const Tensor& words, int bits);

// [n, m] -> [m, n], any dtype of one, two or four bytes.
Tensor transposed(const Tensor& matrix);

}  // namespace halftone
