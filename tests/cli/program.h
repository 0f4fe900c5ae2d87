#pragma once
// Runs the program as a user does.

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace halftone::testing {

using Arguments = std::vector<std::string>;

struct Outcome {
  int code = -1;  // negative: the signal that ended it
  std::string out, err;
};

// A running program; its stdin is a pipe.
class Program {
 public:
  explicit Program(const Arguments& arguments);
  ~Program();  // kills what still runs
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void write(const std::string& input);
  void close_input();
  // Waits, at most a minute, until the program would end orderly at a signal.
  void wait_for_signal_watch() const;
  // The same until stdout has this many bytes.
  void wait_for_output(std::size_t bytes) const;
  void signal(int number) const;
  // Waits for the end of the program; `end_input` ends its stdin first.
  Outcome wait(bool end_input = true);

 private:
  std::filesystem::path folder_;  // of what it printed
  int input_ = -1;
  int process_ = -1;
};

// With `input` on stdin, to the end.
Outcome run_program(const Arguments& arguments, const std::string& input = "");

}  // namespace halftone::testing
