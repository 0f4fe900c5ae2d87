#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace halftone::cuda {

// Rows of elements in device memory. stride: elements from one row to the next.
struct DeviceMatrix {
  void* data = nullptr;
  DType dtype = DType::kBF16;
  std::int64_t rows = 0, cols = 0, stride = 0;
};

}  // namespace halftone::cuda
