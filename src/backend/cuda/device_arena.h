#pragma once
// Device memory taken once and handed out in order. A program holds three: weights, KV cache, workspace. Each is sized
// before the first request, so that nothing is allocated while requests run.

#include <cstddef>
#include <string>

namespace halftone::cuda {

class DeviceArena {
 public:
  // Every piece begins at a multiple of this.
  static constexpr std::size_t kAlignment = 256;

  // Throws Error("[cuda NAME] ...") when the device does not have `capacity` bytes.
  DeviceArena(std::string name, std::size_t capacity);
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

  // Uninitialized memory that stays until reset(). Throws Error when the arena was sized too small.
  void* allocate(std::size_t bytes);
  template <typename T>
  T* allocate(std::size_t count) {
    return static_cast<T*>(allocate(count * sizeof(T)));
  }
  // Takes back all pieces.
  void reset() { used_ = 0; }

  const std::string& name() const { return name_; }
  std::size_t capacity() const { return capacity_; }
  std::size_t used() const { return used_; }
  // What a piece of `bytes` takes, for those who size an arena.
  static constexpr std::size_t padded(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

 private:
  std::string name_;
  std::size_t capacity_ = 0, used_ = 0;
  char* memory_ = nullptr;
};

}  // namespace halftone::cuda
