#pragma once
// What searches minimize: how far the outputs of linear layers move on sampled inputs,
//   sum over outputs r of |E_r|^2 / |Y_r|^2,   Y = X W^T,   E what the outputs move by.
// Errors count relative to each output's own energy, because the scale of an output is arbitrary: another layer undoes it
// (q against k, v against o_proj, up against down_proj). Outputs that are always 0 do not count.

#include <span>
#include <string_view>
#include <vector>

#include "quant/smoothing.h"
#include "quant/statistics.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace halftone {

// What a search over factors needs: linear layers, and statistics of the inputs that `map` has, with sampled rows.
// Throws Error("[where] ...") for anything else.
void check_search(std::string_view where, std::span<const InputReader> linears, const InputStatistics& statistics,
                  const ChannelMap& map);

// X W^T + bias: [samples, outputs]. x: [samples, inputs], weight: [outputs, inputs], bias: [outputs] or undefined, f32.
Tensor outputs_of(const Tensor& x, const Tensor& weight, const Tensor& bias, Stream& stream);

// Sum of squares of each column of y, [samples, outputs] f32: [outputs].
std::vector<double> output_energy(const Tensor& y);

// The sum above. error: [samples, outputs] f32; energy: [outputs], of Y.
double relative_energy(const Tensor& error, const std::vector<double>& energy);

}  // namespace halftone
