#pragma once
// From host memory to the device, for what is small; weights go by DeviceUploader.

#include <span>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/launch.h"

namespace halftone::cuda {

// On the stream; pageable memory is read before the call returns, what is pinned must stay until the stream has passed it.
inline void copy_to_device(void* target, const void* source, std::size_t bytes, const DeviceStream& stream,
                           std::string_view where) {
  check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream.launch().stream), where);
}
template <typename T>
void copy_to_device(T* target, std::span<const T> values, const DeviceStream& stream, std::string_view where) {
  copy_to_device(target, values.data(), values.size_bytes(), stream, where);
}

}  // namespace halftone::cuda
