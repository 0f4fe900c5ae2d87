#pragma once
// ModelOpt's simulation of quantized weights during its searches. It multiplies by reciprocals where the export divides,
// and rounds what it finds to the checkpoint's dtype. Sources: modelopt 0.47 _tensor_quant, nvfp4_scalar_qdq.

#include <cstdint>

#include "quant/statistics.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace halftone {

// base^exponent in f32, as torch.pow has it but for the last place.
float torch_power(float base, float exponent);

// The largest |x| of n values.
float absmax_of(const float* x, std::int64_t n);

// x[0..n) in place, all under the scale for `amax`: INT4. Zeros where amax is at most 2^-24.
void simulate_int4(float* x, std::int64_t n, float amax, DType dtype);
// The same in NVFP4 blocks of `group`; amax is that of the whole weight, smaller ones clip.
void simulate_nvfp4(float* x, std::int64_t n, std::int64_t group, float amax, DType dtype);

// x W^T + bias, rounded to dtype. x: [tokens, inputs], weight: [outputs, inputs], bias: [outputs] or undefined, all f32.
Tensor product_in(DType dtype, const Tensor& x, const Tensor& weight, const Tensor& bias, Stream& stream);

// How much a sampled row counts: 1 / rows unless the statistics say.
double row_weight(const InputStatistics& statistics, std::int64_t row);

// Sum over outputs of the squared differences of row `token` of y and z, each difference rounded to dtype.
double squared_difference(const Tensor& y, const Tensor& z, std::int64_t token, DType dtype);

}  // namespace halftone
