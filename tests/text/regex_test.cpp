#include "text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace halftone {
namespace {

using testing::ElementsAre;

std::vector<std::string> matches_of(std::string_view pattern, std::string_view text) {
  std::vector<std::string> matches;
  Regex(pattern, "test").for_each_match(text, [&](std::size_t begin, std::size_t end) {
    matches.emplace_back(text.substr(begin, end - begin));
  });
  return matches;
}

TEST(Regex, ReadsClassesAsOnigurumaDoes) {
  EXPECT_THAT(matches_of("\\s", "a\u180E\u3000\u0085b"), ElementsAre("\u3000", "\u0085"));  // U+180E is no white space
  EXPECT_THAT(matches_of("\\p{L}+", "ab\U00010D50c 1"), ElementsAre("ab\U00010D50c"));      // a letter since Unicode 16
  EXPECT_THAT(matches_of("[^\\s\\p{L}]+", "a\U00010D50!1 "), ElementsAre("!1"));
  EXPECT_THAT(matches_of("\\P{L}+", "a\U00010D50!1"), ElementsAre("!1"));
  EXPECT_THAT(matches_of("\\w+", "a_1\u0301 \u00BC-"), ElementsAre("a_1\u0301", "\u00BC"));
  EXPECT_THAT(matches_of("[\\w]+", "a_1\u0301 \u00BC-"), ElementsAre("a_1\u0301"));
  EXPECT_THAT(matches_of("(?i:'s)", "'S 's '\u017F"), ElementsAre("'S", "'s", "'\u017F"));
  EXPECT_THAT(matches_of("\\b\\w", "सोंa b"), ElementsAre("स", "b"));  // a vowel sign is of the word
  EXPECT_THAT(matches_of("\\Ba", "aa सोंa"), ElementsAre("a", "a"));
  EXPECT_THAT(matches_of("\\p{Han}+", "漢字ひ"), ElementsAre("漢字"));
}

TEST(Regex, SkipsEmptyMatchesBehindOthers) {
  EXPECT_THAT(matches_of("a*", "aabä"), ElementsAre("aa", "", ""));
  EXPECT_THAT(matches_of("", "ä"), ElementsAre("", ""));
  EXPECT_THAT(matches_of("x", ""), ElementsAre());
}

TEST(Regex, RefusesSyntaxThatMeansSomethingElseThere) {
  for (const char* pattern :
       {"\\h",         "\\v",   "\\X",   "\\1",    "\\K",     "[[:alpha:]]", "[a[b]]", "[a&&b]",  "[\\S\\W]",
        "a{,3}",       "a{2}+", "(?m)a", "a(?i)b", "(?<n>a)", "(*UTF)",      "\\p{C}", "\\p{^L}", "\\pL",
        "\\x{110000}", "\\xFF", "\\u12", "a\\",    "[a",      "[]",          "(",      "\\p{L",   "*a"}) {
    EXPECT_THROW(Regex(pattern, "test"), Error) << pattern;
  }
}

TEST(Regex, StopsRunawayPatterns) {
  const Regex regex("(?:a|a)*b(?=c)|(?:a+)+x", "test");
  EXPECT_THROW(regex.for_each_match(std::string(64, 'a'), [](std::size_t, std::size_t) {}), Error);
}

TEST(Regex, EscapesLiterals) {
  EXPECT_THAT(matches_of(escape_pattern("a.[1]{2}\\ä-^/"), "xa.[1]{2}\\ä-^/y"), ElementsAre("a.[1]{2}\\ä-^/"));
}

}  // namespace
}  // namespace halftone
