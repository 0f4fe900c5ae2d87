#pragma once
// The one exception of the library. Messages read "[where] rule, got value"; an error about input names the file, the
// field, what was expected and what was found. The library throws; it never prints, aborts or exits.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace halftone {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error("[where] " + the formatted message).
template <typename... Args>
[[noreturn]] void fail(std::string_view where, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format("[{}] {}", where, fmt::format(format, std::forward<Args>(args)...)));
}

// fail() unless `condition` holds.
template <typename... Args>
void require(bool condition, std::string_view where, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(where, format, std::forward<Args>(args)...);
}

}  // namespace halftone
