#pragma once
// How far a quantized layer is from the one it stands for.

#include <optional>

#include "hf/checkpoint.h"
#include "tensor/stream.h"

namespace halftone {

struct WeightError {
  double relative = 0;  // |Q - W| / |W| (Frobenius); 0 for a weight of zeros
  double sqnr_db = 0;   // 10 log10(|W|^2 / |Q - W|^2); infinite when nothing was lost
};

// weight: [rows, cols] f32, bf16 or f16, what was rounded. Sums in double, row by row in order.
WeightError weight_error(const QTensor& quantized, const Tensor& weight, ThreadPool& pool);

// |Y' - Y| / |Y| with Y = X W^T, or X (W + B A)^T with the low-rank part of `quantized`, and Y' the product as the engine
// runs it, the input quantized; biases are left out. weight: what was rounded, so W has taken in the input scales and
// given up B A. x: [samples, cols] f32, the input after the input scales.
double output_error(const LinearParts& quantized, const Tensor& weight, const Tensor& x, Stream& stream);

}  // namespace halftone
