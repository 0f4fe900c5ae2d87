#include "backend/cuda/device_arena.h"

#include "backend/cuda/cuda_error.h"
#include "base/error.h"

namespace halftone::cuda {

DeviceArena::DeviceArena(std::string name, std::size_t capacity)
    : name_("cuda " + std::move(name)), capacity_(padded(capacity)) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, capacity_);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it would be reported again by the next launch
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), name_);
    fail(name_, "{} bytes are needed on the device, {} of its {} are free", capacity_, free, total);
  }
  check(status, name_);
  memory_ = static_cast<char*>(memory);
}

DeviceArena::~DeviceArena() { cudaFree(memory_); }

void* DeviceArena::allocate(std::size_t bytes) {
  const std::size_t size = padded(bytes);
  require(size <= capacity_ - used_, name_, "sized for {} bytes, {} are used and {} more are wanted", capacity_, used_,
          size);
  void* piece = memory_ + used_;
  used_ += size;
  return piece;
}

}  // namespace halftone::cuda
