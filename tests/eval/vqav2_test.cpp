#include <gtest/gtest.h>

#include "eval/scorers.h"
#include "eval/vqa_normalize.h"

namespace halftone {
namespace {

// Made by running the official class on these inputs.
TEST(VqaNormalize, AgreesWithTheOfficialCode) {
  const std::pair<const char*, const char*> cases[] = {
      {"Yes.", "yes"},
      {"The Dog", "dog"},
      {"1,000", "1000"},
      {"1, 000", "1 000"},
      {"two dogs", "2 dogs"},
      {"none", "0"},
      {"dont", "don't"},
      {"Im", "im"},
      {"black/white", "black white"},
      {"black / white", "black white"},
      {"U.S.A.", "usa"},
      {"v2.0.", "v2.0"},
      {"5%", "5%"},
      {"$5", "$5"},
      {"12:30", "12:30"},
      {"t-shirt", "t shirt"},
      {"it's a cat", "it's cat"},
      {"a", ""},
      {"2,000 a/b", "2000 ab"},
  };
  for (const auto& [raw, expected] : cases) EXPECT_EQ(vqa_normalize(raw), expected) << raw;
}

TEST(VqaNormalize, MapsNumberWordsAndContractions) {
  EXPECT_EQ(vqa_normalize("zero one Two ten eleven"), "0 1 2 10 eleven");
  EXPECT_EQ(vqa_normalize("somebody'd lets let's couldnt've yall'll"), "somebodyd lets let's couldn't've y'all'll");
  EXPECT_EQ(vqa_normalize("Ive Id've I'dve"), "ive id've i'dve");  // keys with capitals never match
}

TEST(VqaNormalize, DeletesThirtyTwoFullStops) {
  EXPECT_EQ(vqa_normalize(std::string(40, '.') + "x"), std::string(8, '.') + "x");
}

TEST(VqaNormalize, FollowsPythonOnUnicode) {
  EXPECT_EQ(vqa_normalize("\xc3\x84PFEL\xc2\xa0the \xc3\x89t\xc3\xa9!"), "\xc3\xa4pfel \xc3\xa9t\xc3\xa9");
  // A comma between two Arabic-Indic digits is one in a number, so that punctuation is deleted, not replaced.
  EXPECT_EQ(vqa_normalize("\xd9\xa1,\xd9\xa2 a-b"), "\xd9\xa1\xd9\xa2 ab");
}

TEST(VqaClean, ReplacesLineFeedsAndTabs) { EXPECT_EQ(vqa_clean("\n a\tb\n c \n"), "a b  c"); }

Sample question(const std::vector<std::pair<std::string, int>>& answers) {
  Sample sample{"vqav2/1", {}, "", {{"answers", Json::array()}, {"answer_type", "other"}, {"question_type", "what"}}};
  for (const auto& [answer, count] : answers) {
    for (int i = 0; i < count; ++i) sample.truth["answers"].push_back(answer);
  }
  return sample;
}

double always(const Sample& sample, const char* answer) { return judge_vqav2(sample, answer).score["vqav2"]; }
double upstream(const Sample& sample, const char* answer) {
  return judge_vqav2(sample, answer).score["vqav2_upstream"];
}

TEST(Vqav2, ComparesUnanimousAnswersRawAsUpstream) {
  const Sample yes = question({{"yes", 10}});
  EXPECT_EQ(upstream(yes, "Yes"), 0.0);
  EXPECT_EQ(always(yes, "Yes"), 1.0);
  EXPECT_EQ(upstream(yes, " yes\n"), 1.0);
  const Sample most = question({{"yes", 9}, {"no", 1}});
  EXPECT_EQ(upstream(most, "Yes."), 1.0);
  EXPECT_EQ(always(most, "Yes."), 1.0);
}

TEST(Vqav2, LeavesOneOut) {
  EXPECT_EQ(upstream(question({{"2", 3}, {"3", 7}}), "two"), 0.9);
  EXPECT_EQ(upstream(question({{"a b", 2}, {"c", 8}}), "A b"), 0.6);
  const double expected[] = {0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1};  // by answers equal to the prediction
  for (int n = 0; n < 10; ++n) {
    EXPECT_EQ(always(question({{"cat", n}, {"dog", 10 - n}}), "cat"), expected[n]) << n;
  }
  EXPECT_EQ(always(question({{"cat", 10}}), "cat"), 1.0);
}

TEST(Vqav2, ReportsByAnswerTypeAndQuestionType) {
  Sample a = question({{"cat", 10}}), b = question({{"dog", 10}});
  a.truth["answer_type"] = "yes/no";
  const Verdict right = judge_vqav2(a, "cat"), wrong = judge_vqav2(b, "cat");
  const JudgedSample judged[] = {{&a, &right}, {&b, &wrong}};
  std::map<std::string, double> by_group;
  for (const Figure& figure : aggregate_vqav2(judged)) {
    if (figure.metric == "vqav2") by_group[figure.group] = figure.value;
  }
  EXPECT_EQ(by_group,
            (std::map<std::string, double>{{"", 50}, {"yes/no", 100}, {"other", 0}, {"question type: what", 50}}));
}

}  // namespace
}  // namespace halftone
