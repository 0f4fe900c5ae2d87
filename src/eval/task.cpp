#include "eval/task.h"

#include <algorithm>
#include <map>

#include "base/usage_error.h"
#include "data/readers.h"
#include "eval/prompts.h"
#include "eval/python_text.h"
#include "eval/scorers.h"

namespace halftone {

namespace {

constexpr std::string_view kVqav2[] = {"vqav2", "vqav2_upstream"};
constexpr std::string_view kPope[] = {"f1", "accuracy"};
constexpr std::string_view kMme[] = {"perception", "cognition", "correct"};
constexpr std::string_view kMmeHeadline[] = {"perception", "cognition"};
constexpr std::string_view kGqa[] = {"accuracy"};
constexpr std::string_view kGrounding[] = {"iou_50", "mean_iou"};

constexpr std::string_view kMmeNote =
    "Points: accuracy over questions plus accuracy over pictures with both questions right, 200 at most for each part. "
    "*correct* is the plain count of right answers that others call the total. One question of a part of 40 is worth "
    "2.5 to 7.5 points: look at the verdict on the whole task before a difference here.";

constexpr std::string_view kShort = "\nAnswer the question using a single word or phrase.";
constexpr std::string_view kWords = "\nPlease try to answer the question with short words or phrases if possible.";
constexpr std::string_view kYesNo = " Please answer yes or no.";

constexpr TaskPrompt kOpenPrompts[] = {
    {"suite", "", kShort, 16}, {"lmms-eval", "", kShort, 16}, {"vlmevalkit", "", kWords, 2048}};
// POPE's and MME's files hold whole prompts, so that only some presets add to them.
constexpr TaskPrompt kPopePrompts[] = {
    {"suite", "", "", 16}, {"lmms-eval", "", kShort, 128}, {"vlmevalkit", "", kYesNo, 2048}};
constexpr TaskPrompt kMmePrompts[] = {
    {"suite", "", "", 16}, {"lmms-eval", kYesNo, kShort, 16}, {"vlmevalkit", "", "", 2048}};
// This project's own task: its file says in which form to answer, and the other harnesses have no other wording.
constexpr TaskPrompt kGroundingPrompts[] = {
    {"suite", "", "", 48}, {"lmms-eval", "", "", 48}, {"vlmevalkit", "", "", 48}};

constexpr std::span<const std::string_view> first(std::span<const std::string_view> metrics) {
  return metrics.first(1);
}

constexpr Task kTasks[] = {
    {"vqav2", "VQAv2", {kVqav2, first(kVqav2)}, kOpenPrompts, read_vqav2, judge_vqav2, aggregate_vqav2},
    {"pope", "POPE", {kPope, first(kPope), "f1", ""}, kPopePrompts, read_pope, judge_pope, aggregate_pope},
    {"mme", "MME", {kMme, kMmeHeadline, "score", kMmeNote}, kMmePrompts, read_mme, judge_mme, aggregate_mme},
    {"gqa", "GQA", {kGqa, first(kGqa)}, kOpenPrompts, read_gqa, judge_gqa, aggregate_gqa},
    {"grounding",
     "Grounding",
     {kGrounding, first(kGrounding)},
     kGroundingPrompts,
     read_grounding,
     judge_grounding,
     aggregate_grounding},
};

// A task without a prompt for some preset would be asked as its file words it and yet be recorded under that preset.
constexpr bool every_task_has_every_preset() {
  return std::all_of(std::begin(kTasks), std::end(kTasks), [](const Task& task) {
    return std::equal(std::begin(kPromptPresets), std::end(kPromptPresets), task.prompts.begin(), task.prompts.end(),
                      [](std::string_view name, const TaskPrompt& prompt) { return name == prompt.preset; });
  });
}
static_assert(every_task_has_every_preset());

}  // namespace

std::span<const Task> all_tasks() { return kTasks; }

const Task& find_task(std::string_view name) {
  std::string known;
  for (const Task& task : kTasks) {
    if (task.name == name) return task;
    known += (known.empty() ? "" : ", ") + std::string(task.name);
  }
  throw UsageError(fmt::format("[task] expected one of {}, found '{}'", known, name));
}

Verdict judge_answer(const Task& task, const Sample& sample, std::string_view answer) {
  return task.judge(sample, python_strip(answer));
}

Observation JudgedSample::observe(double value) const {
  std::string cluster;
  for (const auto& picture : sample->pictures) cluster += picture.string() + "\n";
  return {std::move(cluster), 1, value};
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
  if (missing > 0) figures.push_back({"", "missing", static_cast<double>(missing), missing, std::nullopt});
  return figures;
}

}  // namespace halftone
