#include "base/log.h"

#include <mutex>

namespace halftone {
namespace {

std::mutex mutex;
WarningSink sink;

}  // namespace

void set_warning_sink(WarningSink new_sink) {
  const std::lock_guard lock(mutex);
  sink = std::move(new_sink);
}

void warn(std::string_view message) {
  const std::lock_guard lock(mutex);
  if (sink) sink(message);
}

}  // namespace halftone
