// POPE, MME, GQA and grounding by their definitions.

#include "eval/scorers.h"

#include <gtest/gtest.h>

#include <deque>

namespace halftone {
namespace {

double value_of(const std::vector<Figure>& figures, const std::string& group, const std::string& metric) {
  for (const Figure& figure : figures) {
    if (figure.group == group && figure.metric == metric) return figure.value;
  }
  ADD_FAILURE() << "no figure " << metric << " of '" << group << "'";
  return -1;
}

// Samples with their verdicts.
class Judged {
 public:
  explicit Judged(Verdict (*judge)(const Sample&, std::string_view)) : judge_(judge) {}
  void add(Json truth, const char* answer) {
    samples_.push_back({"task/" + std::to_string(samples_.size()), {}, "", std::move(truth)});
    verdicts_.push_back(judge_(samples_.back(), answer));
    judged_.push_back({&samples_.back(), &verdicts_.back()});
  }
  std::span<const JudgedSample> span() const { return judged_; }

 private:
  Verdict (*judge_)(const Sample&, std::string_view);
  std::deque<Sample> samples_;
  std::deque<Verdict> verdicts_;
  std::vector<JudgedSample> judged_;
};

TEST(Pope, ParsesAsTheOfficialCode) {
  for (const char* no : {"No", "no", "No, there is not.", "There is not a dog", "there is no, dog", "No."}) {
    EXPECT_EQ(parse_pope(no), "no") << no;
  }
  // Only whole words before the first full stop count, NO is none of them, and all else is yes.
  for (const char* yes : {"Yes", "yes. no", "NO", "knows", "!!!!", "", "nothing"}) EXPECT_EQ(parse_pope(yes), "yes");
}

TEST(Pope, CountsAnswersThatAreNeither) {
  const Sample sample{"pope/1", {}, "", {{"label", "yes"}, {"asks", {"random/1"}}}};
  const auto invalid = [&](const char* answer) { return judge_pope(sample, answer).score["invalid"].get<bool>(); };
  EXPECT_FALSE(invalid("Yes."));
  EXPECT_FALSE(invalid("NO"));
  EXPECT_FALSE(invalid("There is not."));
  EXPECT_TRUE(invalid("!!!!"));
  EXPECT_TRUE(invalid(""));
  EXPECT_TRUE(invalid("yes and no"));
  EXPECT_TRUE(invalid("I know"));
}

TEST(Pope, CountsAQuestionInEverySplitThatAsksIt) {
  Judged pope(judge_pope);
  pope.add({{"label", "yes"}, {"asks", {"random/1", "popular/1", "adversarial/1"}}}, "Yes");
  pope.add({{"label", "yes"}, {"asks", {"random/2", "popular/2", "adversarial/2"}}}, "No");
  pope.add({{"label", "no"}, {"asks", {"random/3"}}}, "No");
  pope.add({{"label", "no"}, {"asks", {"popular/3", "adversarial/3"}}}, "who can tell");
  const std::vector<Figure> figures = aggregate_pope(pope.span());
  EXPECT_DOUBLE_EQ(value_of(figures, "random", "accuracy"), 200.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(figures, "random", "precision"), 100);
  EXPECT_DOUBLE_EQ(value_of(figures, "random", "recall"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "random", "f1"), 200.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(figures, "random", "yes_ratio"), 100.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(figures, "random", "invalid"), 0);
  EXPECT_DOUBLE_EQ(value_of(figures, "popular", "f1"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "popular", "yes_ratio"), 200.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(figures, "popular", "invalid"), 100.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "f1"), (200.0 / 3 + 50 + 50) / 3);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "invalid"), 25);
}

TEST(Mme, ParsesAsTheOfficialCode) {
  EXPECT_EQ(parse_mme("yes"), "yes");
  EXPECT_EQ(parse_mme("No"), "no");
  EXPECT_EQ(parse_mme("Yes, it is"), "yes");
  EXPECT_EQ(parse_mme("No."), "no");
  EXPECT_EQ(parse_mme("** no"), "other");  // four characters reach to the n only
  EXPECT_EQ(parse_mme("*yes"), "yes");
  EXPECT_EQ(parse_mme("know"), "no");
  EXPECT_EQ(parse_mme("\xc3\xa9\xc3\xa9no"), "no");  // characters, not bytes
  EXPECT_EQ(parse_mme("The answer is yes"), "other");
  EXPECT_EQ(parse_mme(""), "other");
}

TEST(Mme, ScoresPairsOfQuestions) {
  Judged mme(judge_mme);
  const auto ask = [&](const char* subtask, const char* picture, const char* truth, const char* answer) {
    mme.add({{"answer", truth}, {"subtask", subtask}, {"picture", picture}}, answer);
  };
  ask("existence", "1.jpg", "yes", "Yes");
  ask("existence", "1.jpg", "no", "No");
  ask("existence", "2.jpg", "yes", "Yes");
  ask("existence", "2.jpg", "no", "Yes");
  ask("code_reasoning", "1.jpg", "yes", "Yes");
  ask("code_reasoning", "1.jpg", "no", "perhaps");
  const std::vector<Figure> figures = aggregate_mme(mme.span());
  EXPECT_DOUBLE_EQ(value_of(figures, "existence", "accuracy"), 75);
  EXPECT_DOUBLE_EQ(value_of(figures, "existence", "accuracy_plus"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "existence", "score"), 125);
  EXPECT_DOUBLE_EQ(value_of(figures, "code_reasoning", "score"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "perception"), 125);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "cognition"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "correct"), 4);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "invalid"), 100.0 / 6);
}

TEST(Gqa, IgnoresCaseAndFullStopsAtTheEnd) {
  const Sample sample{"gqa/1", {}, "", {{"answer", "white"}, {"structural", "query"}}};
  EXPECT_EQ(judge_gqa(sample, "White..").value, 1);
  EXPECT_EQ(judge_gqa(sample, "white!").value, 0);
  EXPECT_EQ(judge_gqa(sample, "the white").value, 0);
  EXPECT_EQ(judge_gqa(sample, "white").groups, (std::vector<std::string>{"open", "query"}));
}

TEST(Grounding, ReadsBoxes) {
  EXPECT_EQ(parse_box("[0.25, .36, 1, 0.66]"), (Box{0.25, 0.36, 1, 0.66}));
  for (const char* bad :
       {"", "[0.1, 0.2, 0.3]", "[0.1,0.2,0.3,0.4]", "[0.1, 0.2, 0.3, 0.4] ", "[-0.1, 0.2, 0.3, 0.4]",
        "[0., 0.2, 0.3, 0.4]", "[0.1, 0.2, 0.3, 0.4", "[0.1, 0.2, 0.3, 0.4, 0.5]", "[1e0, 0, 1, 1]"}) {
    EXPECT_FALSE(parse_box(bad)) << bad;
  }
}

TEST(Grounding, MeasuresOverlap) {
  EXPECT_DOUBLE_EQ(intersection_over_union({0, 0, 1, 1}, {0, 0, 1, 1}), 1);
  EXPECT_DOUBLE_EQ(intersection_over_union({0, 0, 1, 1}, {0.5, 0, 1.5, 1}), 1.0 / 3);
  EXPECT_DOUBLE_EQ(intersection_over_union({0, 0, 0.5, 0.5}, {0.5, 0.5, 1, 1}), 0);
  EXPECT_DOUBLE_EQ(intersection_over_union({0.9, 0.9, 0.1, 0.1}, {0, 0, 1, 1}), 0);  // turned inside out
}

TEST(Grounding, IsRightFromAHalfOn) {
  const Sample sample{"grounding/1", {}, "", {{"bbox", {0.1, 0.1, 0.3, 0.9}}}};
  EXPECT_EQ(judge_grounding(sample, "[0.1, 0.1, 0.2, 0.9]").value, 1);
  EXPECT_EQ(judge_grounding(sample, "[0.1, 0.1, 0.19, 0.9]").value, 0);
  Judged grounding(judge_grounding);
  grounding.add(sample.truth, "[0.1, 0.1, 0.3, 0.9]");
  grounding.add(sample.truth, "on the left");
  const std::vector<Figure> figures = aggregate_grounding(grounding.span());
  EXPECT_DOUBLE_EQ(value_of(figures, "", "iou_50"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "mean_iou"), 50);
  EXPECT_DOUBLE_EQ(value_of(figures, "", "invalid"), 50);
}

}  // namespace
}  // namespace halftone
