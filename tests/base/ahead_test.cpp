#include "base/ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace halftone {
namespace {

TEST(Ahead, GivesResultsInOrder) {
  for (const std::int64_t ahead : {0, 1, 3, 20}) {
    Ahead<std::int64_t> squares(10, ahead, [](std::int64_t i) { return i * i; });
    for (std::int64_t i = 0; i < 10; ++i) EXPECT_EQ(squares.take(), i * i) << ahead;
  }
}

TEST(Ahead, BeginsNoMoreThanItMay) {
  std::atomic<int> begun{0};
  const auto make = [&](std::int64_t) { return ++begun; };
  {
    Ahead<int> few(10, 2, make);
    few.take();
  }
  EXPECT_EQ(begun, 3);
  begun = 0;
  { Ahead<int> none(10, 0, make); }
  EXPECT_EQ(begun, 0);
  { Ahead<int> all(2, 5, make); }
  EXPECT_EQ(begun, 2);
}

TEST(Ahead, ThrowsWhatMakingThrew) {
  Ahead<int> numbers(3, 2,
                     [](std::int64_t i) { return i == 1 ? throw std::runtime_error("no") : static_cast<int>(i); });
  EXPECT_EQ(numbers.take(), 0);
  EXPECT_THROW(numbers.take(), std::runtime_error);
}

}  // namespace
}  // namespace halftone
