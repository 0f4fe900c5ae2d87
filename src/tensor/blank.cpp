#include "tensor/blank.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace halftone {

Tensor blank_tensor(DType dtype, Shape shape) {
  const auto bytes = static_cast<std::size_t>(std::max<std::int64_t>(1, count_elements(shape))) * dtype_size(dtype);
  // reading an untouched page of such a map gives the system's one page of zeros
  void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  std::shared_ptr<const void> owner(address, [bytes](const void* p) { ::munmap(const_cast<void*>(p), bytes); });
  return Tensor::borrow(dtype, std::move(shape), address, std::move(owner));
}

}  // namespace halftone
