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

// Rows [begin, end) of a matrix.
inline DeviceMatrix rows_of(DeviceMatrix matrix, std::int64_t begin, std::int64_t end) {
  matrix.data =
      static_cast<char*>(matrix.data) + begin * matrix.stride * static_cast<std::int64_t>(dtype_size(matrix.dtype));
  matrix.rows = end - begin;
  return matrix;
}

// Columns [begin, end) of a matrix, or the matrix as it is where it has no data.
inline DeviceMatrix columns_of(DeviceMatrix matrix, std::int64_t begin, std::int64_t end) {
  if (!matrix.data) return matrix;
  matrix.data = static_cast<char*>(matrix.data) + begin * static_cast<std::int64_t>(dtype_size(matrix.dtype));
  matrix.cols = end - begin;
  return matrix;
}

}  // namespace halftone::cuda
