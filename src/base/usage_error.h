#pragma once

#include "base/error.h"

namespace halftone {

// The caller asks for what there is not: an unknown name, options that exclude each other. A front end then blames its
// own input, not a file or the machine.
class UsageError : public Error {
 public:
  using Error::Error;
};

// require() with this error.
template <typename... Args>
void require_usage(bool condition, std::string_view where, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw UsageError(fmt::format("[{}] {}", where, fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace halftone
