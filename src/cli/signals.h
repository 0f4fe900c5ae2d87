#pragma once
// SIGINT and SIGTERM: the first one asks for an orderly end, the second one ends the program at once.

#include <csignal>
#include <stop_token>
#include <string>
#include <thread>

namespace halftone::cli {

// Thrown by the progress of commands that have nothing to save; main() turns it into the exit code 130.
struct Interrupted {};

// Make it before any thread is started: they must inherit that both signals are blocked, so that one thread gets them.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  std::stop_token stop() const { return source_.get_token(); }

 private:
  void watch(const std::stop_token& ended);

  sigset_t signals_{};
  std::stop_source source_;
  std::jthread thread_;
};

// The next line of stdin without its end; false at the end of the input and once `stop` is requested, which ends the
// wait for a line.
bool read_line(std::string& line, const std::stop_token& stop);

}  // namespace halftone::cli
