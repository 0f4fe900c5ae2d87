#pragma once
// Rounds weights to the blocks of GGUF files, bit for bit as ggml's reference quantizers do (quantize_row_q8_0_ref,
// quantize_row_q4_0_ref, quantize_row_q4_K_ref of ggml/src/ggml-quants.c), in f32 without contraction:
//
//   Q8_0  d = amax / 127                     code = round(x * (1 / d)), halves away from zero; d is stored as F16
//   Q4_0  d = (value of largest magnitude) / -8     code = min(15, trunc(x * (1 / d) + 8.5))
//   Q4_K  each 32 weights get a scale and a minimum of 0 or less by a weighted least-squares search over 21 step sizes
//         (weight of x: root mean square of the 32 + |x|); the 8 scales and minima of 256 weights are rounded to 6 bits
//         of the largest, and the codes once more with what is stored
//
// Unlike in the other layouts, Q8_0 and Q4_0 divide by the scale before it is rounded to F16.

#include <string_view>

#include "base/thread_pool.h"
#include "hf/ggml_types.h"

namespace halftone {

// weight: [rows, cols] f32, finite (checked). Returns U8 [rows, cols / weights of a block * bytes of a block]. Throws
// Error("[name] ...") for cols that are not whole blocks and for weights that are not finite. A scale beyond F16
// becomes infinite, as in ggml; unpack_ggml() refuses it. The result does not depend on the number of threads.
Tensor round_to_ggml(const Tensor& weight, GgmlType type, std::string_view name, ThreadPool& pool);

}  // namespace halftone
