#pragma once
// Device memory taken once and handed out in order: weights, the KV cache, workspaces. Each is taken before the first
// request.

#include <cstddef>
#include <string>
#include <vector>

namespace halftone::cuda {

class DeviceArena {
 public:
  // Every piece begins at a multiple of this.
  static constexpr std::size_t kAlignment = 256;

  // Throws Error("[cuda NAME] ...") when the device does not have `capacity` bytes.
  DeviceArena(std::string name, std::size_t capacity);
  // An arena that takes `slab` bytes more, or a larger piece's, whenever it is full: for weights while they are
  // loaded, and for a workspace whose size follows from their formats.
  static DeviceArena growing(std::string name, std::size_t slab);
  ~DeviceArena();
  DeviceArena(DeviceArena&&) noexcept;
  DeviceArena& operator=(DeviceArena&&) = delete;

  // Uninitialized memory that stays until reset(). Throws Error when the arena was sized too small, or cannot grow.
  void* allocate(std::size_t bytes);
  template <typename T>
  T* allocate(std::size_t count) {
    return static_cast<T*>(allocate(count * sizeof(T)));
  }
  // Takes back all pieces. For an arena that does not grow.
  void reset();

  const std::string& name() const { return name_; }
  std::size_t capacity() const { return capacity_; }
  std::size_t used() const { return used_; }
  // What a piece of `bytes` takes, for those who size an arena.
  static constexpr std::size_t padded(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

 private:
  explicit DeviceArena(std::string name) : name_("cuda " + std::move(name)) {}
  void take(std::size_t bytes);

  std::string name_;
  std::size_t capacity_ = 0, used_ = 0;  // bytes of all slabs; of all pieces
  std::size_t slab_ = 0;                 // 0: it does not grow
  std::size_t left_ = 0;                 // bytes behind next_ in the newest slab
  char* next_ = nullptr;
  std::vector<void*> slabs_;
};

}  // namespace halftone::cuda
