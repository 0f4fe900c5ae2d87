#pragma once
// Rounds a weight to a format, with the scale as the layout's tool computes and stores it:
//
//   compressed-tensors, INT8 by output  scale = s(absmax_row / 127.5)       q = clamp(rint(w / scale), -128, 127)
//   compressed-tensors, INT4 in groups  scale = s(absmax_group / 7.5)       q = clamp(rint(w / scale), -8, 7)
//   ModelOpt, E4M3 by tensor            scale = amax / 448                  q = e4m3(w / scale)
//   ModelOpt, NVFP4 in blocks of 16     global = amax / (6 * 448)           q = e2m1(w / (block * global))
//   ModelOpt, E2M1 in blocks of 32      global = amax / 448                 q = e2m1(w / (block * global))
//                                       block = e4m3(clamp(absmax_block / (6 * global), 2^-9, 448))
//
// s() rounds to the scales' dtype; a compressed-tensors scale of 0 becomes that dtype's epsilon. A ModelOpt amax of 0
// becomes the format's largest number, other amax are at least the smallest normal f32; a block of zeros has the
// scale 1. All quotients are f32 divisions (what compressed-tensors' GPU kernel and ModelOpt's export compute).
// Rounding is to nearest, ties to even. Sources: compressed_tensors calculate_qparams, quantize; modelopt NVFP4QTensor,
// to_quantized_weight, TensorQuantizer.export_amax.

#include <optional>
#include <string_view>

#include "base/thread_pool.h"
#include "quant/format_names.h"

namespace halftone {

// The largest magnitude of an f32 tensor. Throws Error("[name] ...") for NaN and infinity.
float largest_magnitude(const Tensor& weight, std::string_view name, ThreadPool& pool);

// weight: [rows, cols] f32, finite (checked; `name` is in the error).
// scale_dtype: of compressed-tensors' scales, that of the checkpoint's weights (kBF16, kF16, kF32).
// shared_amax: the largest magnitude of all matrices that must share the ModelOpt global scale (q/k/v; gate/up); not
// less than this one's own. Ignored where there is no global scale. The result does not depend on the number of
// threads.
QTensor round_to_nearest(const Tensor& weight, const QuantSpec& spec, DType scale_dtype,
                         std::optional<float> shared_amax, std::string_view name, ThreadPool& pool);

// The static scale of an input whose largest magnitude on the calibration data is amax, as `layout` stores it:
// compressed-tensors INT8 s(amax / 127.5); ModelOpt E4M3 amax / 448, NVFP4 amax / (6 * 448). kNone gives the default.
InputQuant static_input(InputQuant::Kind kind, float amax, DType scale_dtype);

// ModelOpt's amax as its exporter cleans it: 0 and NaN become `maxbound`, then at least the smallest normal f32.
float clean_amax(float amax, float maxbound);

}  // namespace halftone
