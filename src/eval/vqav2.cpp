#include <algorithm>
#include <map>

#include "eval/scorers.h"
#include "eval/vqa_normalize.h"

namespace halftone {

namespace {

// Each person's share is min(3, matches among the others) / 3, summed in whole thirds, so that 0.3 is exactly 0.3.
double leave_one_out(const std::string& answer, const std::vector<std::string>& people) {
  const auto matches = std::count(people.begin(), people.end(), answer);
  std::int64_t thirds = 0;
  for (const std::string& person : people) {
    thirds += std::min<std::int64_t>(3, matches - (person == answer ? 1 : 0));
  }
  return static_cast<double>(thirds) / static_cast<double>(3 * people.size());
}

constexpr const char* kMetrics[] = {"vqav2", "vqav2_upstream"};

}  // namespace

Verdict judge_vqav2(const Sample& sample, std::string_view answer) {
  std::vector<std::string> raw, normal;
  for (const Json& person : sample.truth.at("answers")) {
    raw.push_back(vqa_clean(person.get_ref<const std::string&>()));
    normal.push_back(vqa_normalize(raw.back()));
  }
  const std::string cleaned = vqa_clean(answer);
  const bool unanimous = std::equal(raw.begin() + 1, raw.end(), raw.begin());
  const double always = leave_one_out(vqa_normalize(cleaned), normal);
  const double upstream = unanimous ? leave_one_out(cleaned, raw) : always;
  return {always,
          {sample.truth.at("answer_type").get<std::string>(),
           "question type: " + sample.truth.at("question_type").get<std::string>()},
          {{"vqav2", always}, {"vqav2_upstream", upstream}}};
}

std::vector<Figure> aggregate_vqav2(std::span<const JudgedSample> samples) {
  std::vector<Figure> figures;
  for (const char* metric : kMetrics) {
    std::vector<Observation> all;
    std::map<std::string, std::vector<Observation>> by_group;
    for (const JudgedSample& judged : samples) {
      all.push_back(judged.observe(judged.verdict->score.at(metric).get<double>()));
      for (const std::string& group : judged.verdict->groups) by_group[group].push_back(all.back());
    }
    figures.push_back(percent_of("", metric, all));
    for (const auto& [group, values] : by_group) figures.push_back(percent_of(group, metric, values));
  }
  return figures;
}

}  // namespace halftone
