#pragma once
// AWQ as ModelOpt's awq_lite does it, for files equal to its own: every linear layer is searched by itself, on a grid
// of eleven exponents, with the rounding of the checkpoint's dtype after each step. (quant/awq.h has the search that is
// better: one scale for all layers that share an input.)
//
//   s = clamp(x^alpha / (w^(1-alpha) + t), 1e-4, 1e4);  s /= sqrt(max s * min s)         alpha = 0, 0.1, .. 1
//   loss = mean over tokens and outputs of (R(x p) Q(R(W R(s)))^T + b - (x W^T + b))^2,  p = R(1 / s)
//
// x: mean |input| of a channel, w: mean over outputs of |W| / largest |W| of its group, R: rounding to the dtype, Q:
// the tool's simulation of the format, which multiplies by reciprocals where its export divides.
// Sources: modelopt 0.47 awq_lite, _tensor_quant, nvfp4_scalar_qdq.

#include <string>
#include <vector>

#include "quant/statistics.h"
#include "tensor/qtensor.h"
#include "tensor/stream.h"

namespace halftone {

struct AwqLiteLinear {
  std::string name;
  const Tensor* weight = nullptr;    // [outputs, inputs] f32, values that dtype holds
  const Tensor* bias = nullptr;      // [outputs] f32; undefined or null: none
  DType dtype = DType::kBF16;        // of the checkpoint
  QuantSpec spec;                    // int4 or e2m1, in groups
  std::vector<float> relative_mean;  // w, where it is known; else it is computed
};

struct AwqLiteResult {
  std::vector<float> scale;  // s of the best exponent, [inputs]
  float alpha = 0;
  std::vector<double> losses;  // of the grid
  double loss() const;
};

// statistics: of the layer's input, with rows. Deterministic for any number of threads. Throws Error when shapes do not
// fit or the format is not one of the two.
AwqLiteResult search_awq_lite(const AwqLiteLinear& linear, const InputStatistics& statistics, Stream& stream);

// The steps after the search.
// 1 / s: what the input is to be multiplied by.
std::vector<float> reciprocals(std::vector<float> values);
// R(factor): what it is multiplied by.
std::vector<float> input_scales(std::vector<float> factors, DType dtype);
// R(W * (1 / factor)), in place.
void scale_weight(const std::vector<float>& factors, DType dtype, Tensor& weight);
// R of the mean of several.
std::vector<float> mean_scales(const std::vector<std::vector<float>>& scales, DType dtype);
// R(W * before / after), in place: a weight whose input gets other scales.
void rescale_weight(const std::vector<float>& before, const std::vector<float>& after, DType dtype, Tensor& weight);
// R(max over channels of R(absmax) * factor): the largest input after scaling.
float scaled_input_absmax(const std::vector<float>& absmax, const std::vector<float>& factors, DType dtype);

}  // namespace halftone
