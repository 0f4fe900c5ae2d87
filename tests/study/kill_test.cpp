// What add_sample() has returned from survives SIGKILL, at whatever moment it comes.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/random.h"
#include "study/store.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

using testing::example_configuration;
using testing::example_info;
using testing::example_sample;
using testing::example_task;
using testing::TemporaryFolder;

// Adds samples until it is killed, and tells the pipe about each one that is in.
[[noreturn]] void write_until_killed(const std::filesystem::path& path, int told) {
  Store store = Store::create_or_resume(path, example_info());
  store.add_configuration(example_configuration());
  store.add_task(example_task());
  auto count = static_cast<std::int64_t>(store.finished_samples("bf16", "vqav2").size());
  for (;; ++count) {
    store.add_sample(example_sample("vqav2/" + std::to_string(count)));
    if (write(told, &count, sizeof count) != sizeof count) _exit(1);
  }
}

// Runs a writer, kills it after `microseconds`, and returns the last sample that it told of; -1: none.
std::int64_t write_and_kill(const std::filesystem::path& path, std::uint64_t microseconds) {
  int ends[2];
  require(pipe(ends) == 0, "test", "no pipe");
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    write_until_killed(path, ends[1]);
  }
  close(ends[1]);
  // The pipe is drained all the time, so that the child never waits for it.
  std::int64_t last = -1;
  std::thread drain([&] {
    for (std::int64_t count; read(ends[0], &count, sizeof count) == sizeof count;) last = count;
  });
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  drain.join();
  close(ends[0]);
  return last;
}

TEST(Kill, LosesAtMostTheSampleInFlight) {
  const TemporaryFolder folder;
  Random random(7);
  std::int64_t told = -1;
  for (int round = 0; round < 40; ++round) {
    told = std::max(told, write_and_kill(folder / "study.db", random.below(30000)));
    Store store = Store::create_or_resume(folder / "study.db", example_info());
    if (store.tasks().empty()) continue;  // killed before the first row
    const auto finished = static_cast<std::int64_t>(store.finished_samples("bf16", "vqav2").size());
    // All that was told of, and at most one more: in, but killed before it could be told.
    EXPECT_GE(finished, told + 1);
    EXPECT_LE(finished, told + 2);
    told = finished - 1;
  }
  EXPECT_GT(told, 0);
}

}  // namespace
}  // namespace halftone
