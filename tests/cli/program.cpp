#include "tests/cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace halftone::testing {
namespace {

namespace fs = std::filesystem;

void wait_until(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    require(std::chrono::steady_clock::now() < end, "test", "the program did not come so far within a minute");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

[[noreturn]] void become(const Arguments& arguments, const fs::path& folder, int input) {
  std::vector<char*> words = {const_cast<char*>("halftone")};
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  const int out = ::open((folder / "out").c_str(), O_CREAT | O_WRONLY, 0600);
  const int err = ::open((folder / "err").c_str(), O_CREAT | O_WRONLY, 0600);
  ::dup2(input, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  ::execv(HALFTONE_PROGRAM, words.data());
  ::_exit(127);
}

}  // namespace

Program::Program(const Arguments& arguments) {
  std::string name = (fs::temp_directory_path() / "halftone-cli-XXXXXX").string();
  require(::mkdtemp(name.data()) != nullptr, "test", "cannot make a folder");
  folder_ = name;
  int ends[2];
  require(::pipe2(ends, O_CLOEXEC) == 0, "test", "cannot make a pipe");
  process_ = ::fork();
  if (process_ == 0) become(arguments, folder_, ends[0]);
  ::close(ends[0]);
  input_ = ends[1];
}

Program::~Program() {
  close_input();
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void Program::write(const std::string& input) {
  const auto size = static_cast<ssize_t>(input.size());
  require(::write(input_, input.data(), input.size()) == size, "test", "cannot write to the program");
}

void Program::close_input() {
  if (input_ >= 0) ::close(input_);
  input_ = -1;
}

void Program::wait_for_signal_watch() const {
  // it blocks SIGINT and leaves it to a thread of its own
  wait_until([&] {
    const fs::path tasks = fs::path("/proc") / std::to_string(process_) / "task";
    std::error_code error;
    return std::distance(fs::directory_iterator(tasks, error), {}) >= 2;
  });
}

void Program::wait_for_output(std::size_t bytes) const {
  wait_until([&] { return fs::exists(folder_ / "out") && fs::file_size(folder_ / "out") >= bytes; });
}

void Program::signal(int number) const { ::kill(process_, number); }

Outcome Program::wait(bool end_input) {
  if (end_input) close_input();
  int status = 0;
  ::waitpid(process_, &status, 0);
  process_ = -1;
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome.out = read_file(folder_ / "out");
  outcome.err = read_file(folder_ / "err");
  return outcome;
}

Outcome run_program(const Arguments& arguments, const std::string& input) {
  Program program(arguments);
  if (!input.empty()) program.write(input);
  return program.wait();
}

}  // namespace halftone::testing
