#pragma once
// Warnings to whoever runs the program. Silent until a front end installs a sink (the command line writes them to
// stderr).

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace halftone {

using WarningSink = std::function<void(std::string_view)>;

// Replaces the sink; an empty function silences. Call before threads are started.
void set_warning_sink(WarningSink sink);
void warn(std::string_view message);

template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  warn(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace halftone
