#pragma once
// The input of a product as its kernels read it: quantized, padded, and packed into words.

#include "backend/cpu/panel_products.h"

namespace halftone {

// The words of one row of x: f32 bits, pairs of int16, or four bytes with 128 added. x: [cols], words: [padded_cols /
// cols_per_word].  Gives the values of quantize_row_reference bit for bit, and s_in.
float stage_row(const float* x, std::int64_t cols, std::int64_t padded_cols, const InputQuant& input,
                PanelArithmetic arithmetic, std::uint32_t* words);

}  // namespace halftone
