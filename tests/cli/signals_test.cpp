#include "cli/signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace halftone::cli {
namespace {

// A program that has seen the first signal and does not end, until the second one ends it.
void ignore_the_first_signal() {
  const SignalWatch signals;
  ::kill(::getpid(), SIGINT);
  while (!signals.stop().stop_requested()) ::usleep(100);
  ::kill(::getpid(), SIGTERM);
  for (;;) ::pause();
}

TEST(SignalWatchDeathTest, TheSecondSignalEndsAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(ignore_the_first_signal(), testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace halftone::cli
