#include "ops/linear_kernels.h"

namespace halftone {

std::span<const LinearKernel> linear_kernels_cpu() { return {}; }

}  // namespace halftone
