#pragma once
// From host memory to the device.

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device_arena.h"
#include "backend/cuda/launch.h"
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

// On the stream; pageable memory is read before the call returns, what is pinned must stay until the stream has passed it.
inline void copy_to_device(void* target, const void* source, std::size_t bytes, const DeviceStream& stream,
                           std::string_view where) {
  check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream.launch().stream), where);
}

}  // namespace halftone::cuda
