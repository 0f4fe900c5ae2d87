#pragma once
// Normalizations over the last dimension. x, y: [rows, cols] f32, y may alias x. Any sum of one row has a fixed order.

#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace halftone {

// Where results are rounded: kF32 nowhere, kBF16 after each op, as a GPU that keeps activations in bf16 does.
enum class Numerics : std::uint8_t { kF32, kBF16 };

// y = w * round(x / sqrt(mean(x^2) + eps)); round is to bf16 in kBF16, and so is the product.  w: [cols] f32.
// Error against exact arithmetic: 4 ulp (kF32).  Source: transformers Qwen2RMSNorm (casts, then multiplies).
void rms_norm(const Tensor& x, const Tensor& w, float eps, Numerics numerics, Tensor& y, Stream& stream);

// y = (x - mean) / sqrt(var + eps) * w + b, var biased.  w, b: [cols] f32.  Source: torch.nn.LayerNorm.
void layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps, Numerics numerics, Tensor& y,
                Stream& stream);

}  // namespace halftone
