#pragma once
// Rounds a weight to the blocks of GGUF files (ops/ggml_blocks.h).

#include <string_view>

#include "base/thread_pool.h"
#include "hf/ggml_types.h"

namespace halftone {

// weight: [rows, cols] f32, bf16 or f16, finite (checked). Returns U8 [rows, cols / weights of a block * bytes of a
// block]. Throws Error("[name] ...") for cols that are not whole blocks and for weights that are not finite. A scale
// beyond F16 becomes infinite, as in ggml; unpack_ggml() refuses it. The result does not depend on the number of
// threads.
Tensor round_to_ggml(const Tensor& weight, GgmlType type, std::string_view name, ThreadPool& pool);

}  // namespace halftone
