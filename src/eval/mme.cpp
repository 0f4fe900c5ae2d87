#include <map>

#include "data/readers.h"
#include "eval/python_text.h"
#include "eval/scorers.h"

namespace halftone {

namespace {

struct Subtask {
  std::vector<Observation> right;
  std::map<std::string, bool> both_right;  // by picture
};

std::map<std::string, Subtask> collect_subtasks(std::span<const JudgedSample> samples) {
  std::map<std::string, Subtask> subtasks;
  for (const JudgedSample& judged : samples) {
    const Json& truth = judged.sample->truth;
    Subtask& subtask = subtasks[truth.at("subtask").get<std::string>()];
    subtask.right.push_back(judged.observe(judged.verdict->value));
    bool& both = subtask.both_right.try_emplace(truth.at("picture").get<std::string>(), true).first->second;
    both = both && judged.verdict->value == 1;
  }
  return subtasks;
}

// Adds the subtask's three figures and returns its score.
double add_subtask(std::vector<Figure>& figures, const std::string& name, const Subtask& subtask) {
  std::vector<Observation> both;
  for (const auto& [picture, right] : subtask.both_right) both.push_back({picture, 1, right ? 1.0 : 0.0});
  const Figure accuracy = percent_of(name, "accuracy", subtask.right);
  const Figure plus = percent_of(name, "accuracy_plus", both);
  const double score = accuracy.value + plus.value;
  figures.insert(figures.end(), {accuracy, plus, Figure{name, "score", score, accuracy.samples, std::nullopt}});
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
  const std::map<std::string, Subtask> subtasks = collect_subtasks(samples);
  std::vector<Figure> parts;
  Figure perception{"", "perception", 0, 0, std::nullopt}, cognition{"", "cognition", 0, 0, std::nullopt};
  for (std::size_t i = 0; i < kMmeSubtasks.size(); ++i) {
    const auto it = subtasks.find(std::string(kMmeSubtasks[i]));
    if (it == subtasks.end()) continue;
    Figure& sum = i < kMmePerceptionSubtasks ? perception : cognition;
    sum.value += add_subtask(parts, it->first, it->second);
    sum.samples += std::ssize(it->second.right);
  }
  std::vector<Observation> right, invalid;
  double correct = 0;
  for (const JudgedSample& judged : samples) {
    right.push_back(judged.observe(judged.verdict->value));
    invalid.push_back(judged.observe(judged.verdict->score.at("said") == "other"));
    correct += judged.verdict->value;
  }
  std::vector<Figure> figures = {perception, cognition,
                                 Figure{"", "correct", correct, std::ssize(samples), std::nullopt},
                                 percent_of("", "accuracy", right), percent_of("", "invalid", invalid)};
  figures.insert(figures.end(), parts.begin(), parts.end());
  return figures;
}

}  // namespace halftone
