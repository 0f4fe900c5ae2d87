#pragma once
// A task: a data set, its prompt and its scorer. To add one, copy gqa.cpp and add a row to task.cpp.

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/sample.h"
#include "eval/figure.h"

namespace halftone {

// What a scorer says about one answer.
struct Verdict {
  double value = 0;                 // by the task's headline metric, 0 to 1
  std::vector<std::string> groups;  // the parts of the task that the sample counts in
  Json score;                       // everything else that the figures need; each scorer's header says what
};

// A sample and what was said about its answer.
struct JudgedSample {
  const Sample* sample = nullptr;
  const Verdict* verdict = nullptr;
};

struct Task {
  std::string_view name;                        // "vqav2"
  std::string_view title;                       // "VQAv2"
  std::span<const std::string_view> headlines;  // metrics of the whole task that a summary shows, the first one first
  TaskData (*read)(const std::filesystem::path& folder);
  // `answer` is the model's text without white space at its ends.
  Verdict (*judge)(const Sample& sample, std::string_view answer);
  // Pure: the same samples give the same figures. Samples come in the order of the data.
  std::vector<Figure> (*aggregate)(std::span<const JudgedSample> samples);
};

// Tasks that are answered by generating: vqav2, pope, mme, gqa, grounding. (Perplexity and KL divergence:
// likelihood.h.)
std::span<const Task> all_tasks();
// Throws Error naming the tasks that there are.
const Task& find_task(std::string_view name);

// Judges an answer as generated.
Verdict judge_answer(const Task& task, const Sample& sample, std::string_view answer);

// A stored verdict.
struct StoredVerdict {
  std::string id;
  Verdict verdict;
};

// The task's figures over the samples that have a verdict, and ("", "missing") when some have none. Throws Error for a
// verdict on a sample that the data do not hold, and for two on one.
std::vector<Figure> aggregate(const Task& task, const TaskData& data, std::span<const StoredVerdict> verdicts);

}  // namespace halftone
