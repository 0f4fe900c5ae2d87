#include <map>

#include "eval/python_text.h"
#include "eval/scorers.h"

namespace halftone {

Verdict judge_gqa(const Sample& sample, std::string_view answer) {
  while (answer.ends_with('.')) answer.remove_suffix(1);
  const std::string said = to_utf8(python_lower(to_code_points(answer)));
  const std::string structural = sample.truth.at("structural").get<std::string>();
  Verdict verdict{sample.truth.at("answer") == said ? 1.0 : 0.0, {}, Json::object()};
  if (!structural.empty()) verdict.groups = {structural == "query" ? "open" : "binary", structural};
  return verdict;
}

std::vector<Figure> aggregate_gqa(std::span<const JudgedSample> samples) {
  std::map<std::string, std::vector<Observation>> groups;
  for (const JudgedSample& judged : samples) {
    std::vector<std::string> names = judged.verdict->groups;
    names.emplace_back();
    for (const std::string& name : names) groups[name].push_back(judged.observe(judged.verdict->value));
  }
  std::vector<Figure> figures;
  for (const auto& [name, right] : groups) figures.push_back(percent_of(name, "accuracy", right));
  return figures;
}

}  // namespace halftone
