#pragma once
#include <string_view>

#include "tensor/tensor.h"

namespace halftone {

// The scales in `dtype` (kF32, kBF16, kF16). Throws Error("[export] tensor 'name': ...") when one changes: the weight
// was rounded with the scale as it is, so the file must hold the same one.
Tensor exact_scales(const Tensor& scales, DType dtype, std::string_view name);

}  // namespace halftone
