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

// |Y' - Y| / |Y| with Y = X W^T and Y' the product as the engine runs it, the input quantized. x: [samples, cols] f32.
double output_error(const LinearParts& quantized, const Tensor& weight, const Tensor& x, Stream& stream);

}  // namespace halftone
