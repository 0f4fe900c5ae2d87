#pragma once
// Host memory that the device reads and writes by itself, and marks on a stream that the host waits for.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "backend/cuda/cuda_error.h"

namespace halftone::cuda {

class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes) { check(cudaMallocHost(&data_, bytes), "cuda pinned memory"); }
  PinnedMemory(PinnedMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  PinnedMemory& operator=(PinnedMemory&&) = delete;
  ~PinnedMemory() { cudaFreeHost(data_); }

  template <typename T>
  T* data() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

class DeviceEvent {
 public:
  DeviceEvent() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cuda event"); }
  DeviceEvent(DeviceEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  DeviceEvent& operator=(DeviceEvent&&) = delete;
  ~DeviceEvent() {
    if (event_) cudaEventDestroy(event_);
  }

  void record(cudaStream_t stream) const { check(cudaEventRecord(event_, stream), "cuda event"); }
  // Throws Error when what came before it on the stream failed.
  void wait() const { check(cudaEventSynchronize(event_), "cuda event"); }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace halftone::cuda
