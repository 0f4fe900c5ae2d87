#include "model/workspace.h"

namespace halftone {

Tensor Workspace::get(std::string_view name, Shape shape) {
  const std::int64_t count = count_elements(shape);
  auto it = buffers_.find(name);
  if (it == buffers_.end()) it = buffers_.emplace(std::string(name), Tensor()).first;
  Tensor& buffer = it->second;
  if (!buffer.defined() || buffer.numel() < count) {
    buffer = Tensor();  // freed before the larger one is made
    buffer = Tensor(DType::kF32, {count + count / 4});
  }
  return buffer.rows(0, count).reshape(std::move(shape));
}

std::int64_t Workspace::nbytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, buffer] : buffers_) bytes += buffer.nbytes();
  return bytes;
}

}  // namespace halftone
