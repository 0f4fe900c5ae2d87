#include "eval/task.h"

#include <map>

#include "data/readers.h"
#include "eval/python_text.h"
#include "eval/scorers.h"

namespace halftone {

namespace {

constexpr std::string_view kVqav2[] = {"vqav2", "vqav2_upstream"};
constexpr std::string_view kPope[] = {"f1", "accuracy"};
constexpr std::string_view kMme[] = {"perception", "cognition", "correct"};
constexpr std::string_view kGqa[] = {"accuracy"};
constexpr std::string_view kGrounding[] = {"iou_50", "mean_iou"};

constexpr Task kTasks[] = {
    {"vqav2", "VQAv2", kVqav2, read_vqav2, judge_vqav2, aggregate_vqav2},
    {"pope", "POPE", kPope, read_pope, judge_pope, aggregate_pope},
    {"mme", "MME", kMme, read_mme, judge_mme, aggregate_mme},
    {"gqa", "GQA", kGqa, read_gqa, judge_gqa, aggregate_gqa},
    {"grounding", "Grounding", kGrounding, read_grounding, judge_grounding, aggregate_grounding},
};

}  // namespace

std::span<const Task> all_tasks() { return kTasks; }

const Task& find_task(std::string_view name) {
  std::string known;
  for (const Task& task : kTasks) {
    if (task.name == name) return task;
    known += (known.empty() ? "" : ", ") + std::string(task.name);
  }
  fail("task", "expected one of {}, found '{}'", known, name);
}

Verdict judge_answer(const Task& task, const Sample& sample, std::string_view answer) {
  return task.judge(sample, python_strip(answer));
}

std::vector<Figure> aggregate(const Task& task, const TaskData& data, std::span<const StoredVerdict> verdicts) {
  std::map<std::string_view, const Verdict*> by_id;
  for (const StoredVerdict& stored : verdicts) {
    require(by_id.emplace(stored.id, &stored.verdict).second, task.name, "expected one verdict on '{}', found two",
            stored.id);
  }
  std::vector<JudgedSample> judged;
  for (const Sample& sample : data.samples) {
    const auto it = by_id.find(sample.id);
    if (it != by_id.end()) judged.push_back({&sample, it->second});
  }
  require(judged.size() == by_id.size(), task.name, "expected verdicts on samples of the data, found {} on others",
          by_id.size() - judged.size());
  std::vector<Figure> figures = task.aggregate(judged);
  const auto missing = static_cast<std::int64_t>(data.samples.size() - judged.size());
  if (missing > 0) figures.push_back({"", "missing", static_cast<double>(missing), missing, std::nullopt, ""});
  return figures;
}

}  // namespace halftone
