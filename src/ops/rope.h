#pragma once
// Rotary position embedding, the non-interleaved "rotate half" form:
//   y[t, h, j]       = x[t, h, j] * cos[t, j] - x[t, h, j + d/2] * sin[t, j]            j < d/2
//   y[t, h, j + d/2] = x[t, h, j + d/2] * cos[t, j] + x[t, h, j] * sin[t, j]
// x: [tokens, heads, d] f32, in place.  cos, sin: [tokens, d/2] f32 (M-RoPE and 2-D tables are made by the model).
// In kBF16 the products are rounded, then the sum, as eager transformers does. Source: apply_rotary_pos_emb.

#include "ops/norm.h"

namespace halftone {

void rope(const Tensor& cos, const Tensor& sin, Numerics numerics, Tensor& x, Stream& stream);

}  // namespace halftone
