#pragma once
// unpack_ggml() by several threads.

#include "base/thread_pool.h"
#include "hf/ggml_types.h"

namespace halftone {

// As the one in ggml_types.h. The result does not depend on the number of threads.
QTensor unpack_ggml(GgmlType type, const Tensor& blocks, std::int64_t cols, std::string_view name, ThreadPool& pool);

}  // namespace halftone
