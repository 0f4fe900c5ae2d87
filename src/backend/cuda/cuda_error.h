#pragma once
// What the CUDA runtime answers, as this project's exception.

#include <cuda_runtime_api.h>

#include <string_view>

namespace halftone::cuda {

// Throws Error("[where] ...") unless the call succeeded: what happened in a sentence, what to do where that is known, and
// the runtime's own name for it.
void check(cudaError_t status, std::string_view where);

}  // namespace halftone::cuda
