#pragma once
// Buffers of one session that are kept from call to call, so that decoding a token allocates nothing large.

#include <map>
#include <string_view>

#include "tensor/tensor.h"

namespace halftone {

class Workspace {
 public:
  // A tensor of f32, uninitialized, in the buffer of that name. What the name gave before shares the storage.
  Tensor get(std::string_view name, Shape shape);
  std::int64_t nbytes() const;

 private:
  std::map<std::string, Tensor, std::less<>> buffers_;
};

}  // namespace halftone
