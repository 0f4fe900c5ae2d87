// The books of the KV cache's pages; they need no GPU.
#include "backend/cuda/kv_pages.h"

#include <gtest/gtest.h>

#include <set>

#include "backend/cuda/device/decode_ops.h"
#include "base/error.h"

namespace halftone::cuda {
namespace {

constexpr std::int64_t kPage = kPageTokens;

TEST(KvPages, AreHandedOutOnceAndComeBack) {
  KvPages pages(3, 4, 6);
  EXPECT_TRUE(pages.reserve(0, 3 * kPage));
  EXPECT_FALSE(pages.reserve(0, 2 * kPage + 1));
  EXPECT_TRUE(pages.reserve(2, 1));
  std::set<std::int32_t> held(pages.row(0), pages.row(0) + 3);
  held.insert(*pages.row(2));
  EXPECT_EQ(held.size(), 4u);
  EXPECT_EQ(pages.free_pages(), 2);
  pages.append(0, 3 * kPage);
  EXPECT_EQ(pages.length(0), 3 * kPage);
  pages.truncate(0, kPage + 1);
  EXPECT_EQ(pages.length(0), kPage + 1);
  EXPECT_EQ(pages.free_pages(), 3);
  pages.truncate(0, 0);
  EXPECT_EQ(pages.free_pages(), 5);
}

TEST(KvPages, ChangeNothingWhereThereIsNoRoom) {
  KvPages pages(2, 4, 5);
  pages.reserve(0, 3 * kPage);
  EXPECT_EQ(pages.pages_wanted(1, 2 * kPage + 1), 3);
  EXPECT_THROW(pages.reserve(1, 2 * kPage + 1), Error);
  EXPECT_THROW(pages.reserve(0, 4 * kPage + 1), Error);
  EXPECT_EQ(pages.free_pages(), 2);
  EXPECT_TRUE(pages.reserve(1, 2 * kPage));
}

TEST(KvPages, SayWhatDoesNotFit) {
  KvPages pages(2, 4, 8);
  EXPECT_THROW(pages.reserve(2, 1), Error);
  EXPECT_THROW(pages.append(0, 1), Error);
  pages.reserve(0, kPage);
  EXPECT_THROW(pages.truncate(0, 1), Error);
}

}  // namespace
}  // namespace halftone::cuda
