#include "base/glob.h"

#include <gtest/gtest.h>

#include <string>

namespace halftone {
namespace {

TEST(Glob, MatchesAsFnmatchDoes) {
  EXPECT_TRUE(glob_match("*visual*", "model.visual.blocks.0"));
  EXPECT_TRUE(glob_match("model.layers.[0-3].mlp.*_proj", "model.layers.2.mlp.up_proj"));
  EXPECT_FALSE(glob_match("model.layers.[!0-3].*", "model.layers.2.mlp"));
  EXPECT_TRUE(glob_match("model.layers.?", "model.layers.7"));
  EXPECT_FALSE(glob_match("model.layers.?", "model.layers.17"));
  EXPECT_FALSE(glob_match("visual", "model.visual"));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_TRUE(glob_match("**", ""));
  EXPECT_FALSE(glob_match("?", ""));
  EXPECT_TRUE(glob_match("a[", "a["));
  EXPECT_TRUE(glob_match("a[]]", "a]"));
  EXPECT_TRUE(glob_match("*a*b", "xaxbxb"));
  EXPECT_FALSE(glob_match("*a*b", "xbxa"));
}

TEST(Glob, ManyStarsStayCheap) {
  std::string pattern;
  for (int i = 0; i < 50; ++i) pattern += "*a";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(2000, 'a')));
}

}  // namespace
}  // namespace halftone
