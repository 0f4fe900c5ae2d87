#pragma once
// Rounds a weight to a format, with the scale as the layout's tool computes and stores it. d is the checkpoint's dtype,
// s() rounds to it; amax is the largest magnitude under one scale, low and high its least and greatest value.
//
//   compressed-tensors
//     integers            scale = s(amax / 127.5 or 7.5), 0 -> the dtype's epsilon      q = clamp(rint(w / scale))
//     asymmetric          scale = s(s(high - low) / 255 or 15), low <= 0 <= high;       q = clamp(rint(w / scale + zero))
//                         zero = rint(clamp(s(qmin - s(low / scale))))
//     E4M3                scale = s(amax / 448), 0 -> epsilon                           q = e4m3(w / scale)
//     NVFP4               global = s(2688 * s(1 / amax of all)), a divisor              q = e2m1(w / (block / global))
//                         block = e4m3(global * s(amax / 6)), 0 -> 0.125
//     MX                  formats/mx.h, scale_rounded
//   ModelOpt              an amax of 0 becomes the format's largest number, others are at least the smallest normal f32
//     integers            scale = amax / 127 or 7, f32
//     E4M3                scale = amax / 448, f32
//     NVFP4               global = amax of all / 2688, a factor                         q = e2m1(w / (block * global))
//                         block = e4m3(clamp(amax / (6 * global), 2^-9, 448)), 0 -> 1
//     E2M1, blocks of 32  the same with global = amax of all / 448
//     MX                  formats/mx.h, scale_ceil; MXFP4's ties go down, its zeros are written as -0
//   AutoAWQ               scale = f16((high - low) / 15), difference >= 1e-5; zero = clamp(-rint(low / scale));
//                         symmetric f16(amax / 7)                                       q = clamp(rint(w / scale) + zero)
//   GPTQ                  scale = f16((high - low) / 15 or 255), low <= 0 <= high; symmetric f16(2 amax / 15 or 255)
//   GGUF                  Q8_0: scale = f16(amax / 127); Q4_0: scale = f16(w_max / -8), w_max the value of magnitude amax;
//                         q by the reciprocal of the unrounded scale; Q8_0 rounds halves away from zero, Q4_0 up
//   bitsandbytes          NF4: quant/nf4_double.h
//
// Quotients are f32 divisions, perhaps rounded to Rounding::quotients. Rounding is to nearest, ties to even, unless said.
// Sources: compressed_tensors calculate_qparams, generate_gparam, quantize; modelopt to_quantized_weight, *QTensor,
// TensorQuantizer.export_amax; AutoAWQ pseudo_quantize_tensor, WQLinear_GEMM; GPTQModel Quantizer; ggml-quants.c.

#include <optional>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "quant/format_names.h"

namespace halftone {

// Whose arithmetic.
struct Rounding {
  // NOLINTNEXTLINE(google-explicit-constructor): a dtype alone is the rule of the format's own tool
  Rounding(DType model_dtype, std::optional<Layout> layout_of_tool = {}, DType quotient_dtype = DType::kF32)
      : dtype(model_dtype), layout(layout_of_tool), quotients(quotient_dtype) {}

  DType dtype;                   // of the checkpoint's weights: kBF16, kF16, kF32
  std::optional<Layout> layout;  // unset: compressed-tensors for integers, ModelOpt for all others
  // compressed-tensors, and ModelOpt for E4M3 by tensor, divide in the weight's dtype on a CPU; in f32 on a GPU.
  DType quotients;
  bool four_over_six = false;  // NVFP4 in blocks of 16: each chooses its scale (quant/four_over_six.h)
  // What scales are made for in place of the weights' own largest magnitudes, which may be larger: clipped. Symmetric
  // integers [scales], NVFP4 [1] in place of shared_amax. Empty: nothing is clipped.
  std::span<const float> limits{};
};

// As the layout's tool rounds weights of `dtype` on a CPU. AutoAWQ's and GPTQ's layouts have rules of their own; others
// round quotients to `quotients`.
Rounding rounding_of(Layout layout, DType dtype, DType quotients);

// The largest magnitude of a tensor of f32, bf16 or f16. Throws Error("[name] ...") for NaN and infinity.
float largest_magnitude(const Tensor& weight, std::string_view name, ThreadPool& pool);

// weight: [rows, cols] f32, bf16 or f16, finite (checked; `name` is in the error).
// shared_amax: the largest magnitude of all matrices that must share a global scale (q/k/v; gate/up), or a tile's scale
// where each is one tile; not less than this one's own. Ignored where there is no such scale. The result does not depend on the number of threads.
// Throws Error for a format that the layout's tool does not have.
QTensor round_to_nearest(const Tensor& weight, const QuantSpec& spec, const Rounding& rule,
                         std::optional<float> shared_amax, std::string_view name, ThreadPool& pool);

// The static scale of an input whose largest magnitude on the calibration data is amax, as the layout stores it. Kinds
// without a static scale get 1.
InputQuant static_input(InputQuant::Kind kind, float amax, const Rounding& rule);

// ModelOpt's amax as its exporter cleans it: 0 and NaN become `maxbound`, then at least the smallest normal f32.
float clean_amax(float amax, float maxbound);

}  // namespace halftone
