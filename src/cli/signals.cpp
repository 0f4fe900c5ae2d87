#include "cli/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace halftone::cli {
namespace {

// True when stdin has something to read, or has ended; false when `stop` was requested first.
bool wait_for_input(const std::stop_token& stop) {
  const int wake = ::eventfd(0, EFD_CLOEXEC);
  bool ready = false;
  {
    const std::stop_callback on_stop(stop, [wake] {
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = ::write(wake, &one, sizeof one);
    });
    pollfd files[] = {{STDIN_FILENO, POLLIN, 0}, {wake, POLLIN, 0}};
    while (::poll(files, 2, -1) < 0 && errno == EINTR) {
    }
    ready = files[1].revents == 0;
  }
  ::close(wake);
  return ready && !stop.stop_requested();
}

}  // namespace

SignalWatch::SignalWatch() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::jthread([this](const std::stop_token& ended) { watch(ended); });
}

SignalWatch::~SignalWatch() {
  thread_.request_stop();
  pthread_kill(thread_.native_handle(), SIGTERM);  // ends its wait
}

void SignalWatch::watch(const std::stop_token& ended) {
  int signal = 0;
  sigwait(&signals_, &signal);
  if (ended.stop_requested()) return;
  source_.request_stop();
  sigwait(&signals_, &signal);
  if (ended.stop_requested()) return;
  std::signal(signal, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
  raise(signal);
}

bool read_line(std::string& line, const std::stop_token& stop) {
  static std::string buffer;
  std::size_t searched = 0;
  for (;;) {
    const std::size_t end = buffer.find('\n', searched);
    if (end != std::string::npos) {
      line = buffer.substr(0, end);
      buffer.erase(0, end + 1);
      return !stop.stop_requested();
    }
    searched = buffer.size();
    char chunk[4096];
    const ssize_t size = wait_for_input(stop) ? ::read(STDIN_FILENO, chunk, sizeof chunk) : 0;
    if (size <= 0) {
      line = std::move(buffer);
      buffer.clear();
      return !line.empty() && !stop.stop_requested();
    }
    buffer.append(chunk, static_cast<std::size_t>(size));
  }
}

}  // namespace halftone::cli
