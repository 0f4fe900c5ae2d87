#pragma once
// Elementwise ops on f32 tensors; y may alias x. In Numerics::kBF16 each result is rounded to bf16.

#include "ops/norm.h"

namespace halftone {

// y = x + y  (the residual).  Same shape.
void add(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream);
// y[r, c] = silu(gate_up[r, c]) * gate_up[r, cols + c].  gate_up: [rows, 2 * cols], y: [rows, cols].  kBF16 rounds
// silu, too.
void silu_mul(const Tensor& gate_up, Numerics numerics, Tensor& y, Stream& stream);
// y = x * sigmoid(1.702 x).  kBF16 rounds each of the three steps.  Source: transformers QuickGELUActivation.
void quick_gelu(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream);
// y = x/2 * (1 + erf(x / sqrt 2)).  Source: torch.nn.GELU().
void gelu_erf(const Tensor& x, Numerics numerics, Tensor& y, Stream& stream);
// Rounds in place to bf16 when numerics is kBF16, else does nothing.
void round_to(Numerics numerics, Tensor& y, Stream& stream);

}  // namespace halftone
