#include "base/log.h"

#include <mutex>

namespace halftone {
namespace {

std::mutex mutex;
LogSink sink;

}  // namespace

void set_log_sink(LogSink new_sink) {
  const std::lock_guard lock(mutex);
  sink = std::move(new_sink);
}

void log_message(LogLevel level, std::string_view message) {
  const std::lock_guard lock(mutex);
  if (sink) sink(level, message);
}

}  // namespace halftone
