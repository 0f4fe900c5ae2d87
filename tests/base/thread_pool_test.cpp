#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>

#include "base/error.h"

namespace halftone {
namespace {

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
      pool.parallel_for(count, [&](std::int64_t i) { hits[static_cast<std::size_t>(i)]++; });
      for (const auto& hit : hits) EXPECT_EQ(hit, 1);
    }
  }
}

TEST(ThreadPool, RethrowsAndGoesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(100, [](std::int64_t i) { require(i != 42, "test", "no {}", i); }), Error);
  std::atomic<int> sum = 0;
  pool.parallel_for(10, [&](std::int64_t) { sum++; });
  EXPECT_EQ(sum, 10);
}

TEST(ThreadPool, NestedCallsRunSerially) {
  ThreadPool pool(2);
  std::atomic<int> sum = 0;
  pool.parallel_for(4, [&](std::int64_t) { pool.parallel_for(4, [&](std::int64_t) { sum++; }); });
  EXPECT_EQ(sum, 16);
}

}  // namespace
}  // namespace halftone
