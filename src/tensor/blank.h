#pragma once
#include "tensor/tensor.h"

namespace halftone {

// Zeros that take no memory and must never be written: an outline of a tensor that is still to come.
Tensor blank_tensor(DType dtype, Shape shape);

}  // namespace halftone
