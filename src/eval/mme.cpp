#include <algorithm>
#include <map>

#include "data/readers.h"
#include "eval/python_text.h"
#include "eval/scorers.h"

namespace halftone {

namespace {

struct Subtask {
  std::int64_t right = 0, questions = 0;
  std::map<std::string, bool> both_right;  // by picture
};

std::map<std::string, Subtask> count_subtasks(std::span<const JudgedSample> samples) {
  std::map<std::string, Subtask> subtasks;
  for (const JudgedSample& judged : samples) {
    const Json& truth = judged.sample->truth;
    Subtask& subtask = subtasks[truth.at("subtask").get<std::string>()];
    const bool right = judged.verdict->value == 1;
    subtask.right += right ? 1 : 0;
    ++subtask.questions;
    bool& both = subtask.both_right.try_emplace(truth.at("picture").get<std::string>(), true).first->second;
    both = both && right;
  }
  return subtasks;
}

// Adds the subtask's three figures and returns its score.
double add_subtask(std::vector<Figure>& figures, const std::string& name, const Subtask& subtask) {
  const auto both =
      std::count_if(subtask.both_right.begin(), subtask.both_right.end(), [](const auto& p) { return p.second; });
  const Figure accuracy = percent_of(name, "accuracy", subtask.right, subtask.questions);
  const Figure plus = percent_of(name, "accuracy_plus", both, std::ssize(subtask.both_right));
  const double score = accuracy.value + plus.value;
  figures.insert(figures.end(), {accuracy, plus, Figure{name, "score", score, subtask.questions, std::nullopt, ""}});
  return score;
}

}  // namespace

std::string_view parse_mme(std::string_view answer) {
  const std::u32string text = python_lower(to_code_points(answer));
  const std::u32string_view front = std::u32string_view(text).substr(0, 4);
  if (text == U"yes" || text == U"no") return text == U"yes" ? "yes" : "no";
  if (front.find(U"yes") != front.npos) return "yes";
  return front.find(U"no") != front.npos ? "no" : "other";
}

Verdict judge_mme(const Sample& sample, std::string_view answer) {
  const std::string_view said = parse_mme(answer);
  return {
      sample.truth.at("answer") == said ? 1.0 : 0.0, {sample.truth.at("subtask").get<std::string>()}, {{"said", said}}};
}

std::vector<Figure> aggregate_mme(std::span<const JudgedSample> samples) {
  const std::map<std::string, Subtask> subtasks = count_subtasks(samples);
  std::vector<Figure> parts;
  Figure perception{"", "perception", 0, 0, std::nullopt, ""}, cognition{"", "cognition", 0, 0, std::nullopt, ""};
  std::int64_t right = 0;
  for (std::size_t i = 0; i < kMmeSubtasks.size(); ++i) {
    const auto it = subtasks.find(std::string(kMmeSubtasks[i]));
    if (it == subtasks.end()) continue;
    Figure& sum = i < kMmePerceptionSubtasks ? perception : cognition;
    sum.value += add_subtask(parts, it->first, it->second);
    sum.samples += it->second.questions;
    right += it->second.right;
  }
  const auto total = std::ssize(samples);
  const auto invalid = std::count_if(samples.begin(), samples.end(), [](const JudgedSample& judged) {
    return judged.verdict->score.at("said") == "other";
  });
  std::vector<Figure> figures = {perception, cognition,
                                 Figure{"", "correct", static_cast<double>(right), total, std::nullopt, ""},
                                 percent_of("", "accuracy", right, total), percent_of("", "invalid", invalid, total)};
  figures.insert(figures.end(), parts.begin(), parts.end());
  return figures;
}

}  // namespace halftone
