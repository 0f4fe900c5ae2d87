#pragma once
// Tensors of host memory in an arena of the device.

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device_arena.h"
#include "tensor/tensor.h"

namespace halftone::cuda {

// The tensor's elements as they are; null for an undefined tensor.
inline const void* upload(const Tensor& tensor, DeviceArena& arena) {
  if (!tensor.defined()) return nullptr;
  const auto bytes = static_cast<std::size_t>(tensor.nbytes());
  void* target = arena.allocate(bytes);
  check(cudaMemcpy(target, tensor.raw(), bytes, cudaMemcpyHostToDevice), arena.name());
  return target;
}

// The same for a tensor that is f32.
inline const float* upload_floats(const Tensor& tensor, DeviceArena& arena) {
  require(!tensor.defined() || tensor.dtype() == DType::kF32, arena.name(), "expected F32, got {}",
          dtype_name(tensor.dtype()));
  return static_cast<const float*>(upload(tensor, arena));
}

}  // namespace halftone::cuda
