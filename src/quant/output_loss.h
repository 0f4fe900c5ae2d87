#pragma once
// What searches minimize: how far the outputs of linear layers move on sampled inputs,
//   sum over outputs r of |E_r|^2 / |Y_r|^2,   Y = X W^T,   E what the outputs move by.
// Errors count relative to each output's own energy, because the scale of an output is arbitrary: another layer undoes it
// (q against k, v against o_proj, up against down_proj). Outputs that are always 0 do not count.

#include <vector>

#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace halftone {

// X W^T: [samples, outputs]. x: [samples, inputs], weight: [outputs, inputs], f32.
Tensor outputs_of(const Tensor& x, const Tensor& weight, Stream& stream);

// Sum of squares of each column of y, [samples, outputs] f32: [outputs].
std::vector<double> output_energy(const Tensor& y);

// The sum above. error: [samples, outputs] f32; energy: [outputs], of Y.
double relative_energy(const Tensor& error, const std::vector<double>& energy);

}  // namespace halftone
