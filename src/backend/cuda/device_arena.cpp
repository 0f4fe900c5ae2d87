#include "backend/cuda/device_arena.h"

#include <algorithm>
#include <utility>

#include "backend/cuda/cuda_error.h"
#include "base/error.h"

namespace halftone::cuda {

DeviceArena::DeviceArena(std::string name, std::size_t capacity) : DeviceArena(std::move(name)) {
  take(padded(capacity));
}

DeviceArena DeviceArena::growing(std::string name, std::size_t slab) {
  DeviceArena arena(std::move(name));
  arena.slab_ = padded(slab);
  return arena;
}

DeviceArena::DeviceArena(DeviceArena&& other) noexcept
    : name_(std::move(other.name_)),
      capacity_(std::exchange(other.capacity_, 0)),
      used_(std::exchange(other.used_, 0)),
      slab_(other.slab_),
      left_(std::exchange(other.left_, 0)),
      next_(other.next_),
      slabs_(std::exchange(other.slabs_, {})) {}

DeviceArena::~DeviceArena() {
  for (void* slab : slabs_) cudaFree(slab);
}

void DeviceArena::take(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it would be reported again by the next launch
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), name_);
    fail(name_, "{} bytes are needed on the device, {} of its {} are free", bytes, free, total);
  }
  check(status, name_);
  slabs_.push_back(memory);
  next_ = static_cast<char*>(memory);
  left_ = bytes;
  capacity_ += bytes;
}

void* DeviceArena::allocate(std::size_t bytes) {
  const std::size_t size = padded(bytes);
  if (size > left_ && slab_ > 0) take(std::max(slab_, size));
  require(size <= left_, name_, "sized for {} bytes, {} are used and {} more are wanted", capacity_, used_, size);
  char* piece = next_;
  next_ += size;
  left_ -= size;
  used_ += size;
  return piece;
}

void DeviceArena::reset() {
  require(slabs_.size() == 1, name_, "an arena that grows gives nothing back");
  next_ = static_cast<char*>(slabs_.front());
  left_ = capacity_;
  used_ = 0;
}

}  // namespace halftone::cuda
