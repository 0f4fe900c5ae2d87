#pragma once
// A task: a data set, its prompts and its scorer. A new one is a reader (data/NAME.cpp, declared in data/readers.h), a
// scorer (eval/NAME.cpp, declared in eval/scorers.h) and a row of the table in task.cpp.

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

  // For a share in which the sample counts once; samples on the same pictures are one cluster.
  Observation observe(double value) const;
};

// What one preset puts around a task's question. The presets are those of prompts.h.
struct TaskPrompt {
  std::string_view preset;
  std::string_view strip;   // removed from the end of a question that has it
  std::string_view suffix;  // then appended
  std::int64_t max_new_tokens = 0;
};

// What of a task's figures a summary shows.
struct TaskSummary {
  std::span<const std::string_view> metrics;   // of the whole task, in this order
  std::span<const std::string_view> headline;  // of these; their sum is the one number that stands for the task
  std::string_view part_metric = {};           // by part of the task, in a table of its own; empty: no such table
  std::string_view part_note = {};             // what the numbers of that table mean
};

struct Task {
  std::string_view name;   // "vqav2"
  std::string_view title;  // "VQAv2"
  TaskSummary summary;
  std::span<const TaskPrompt> prompts;  // one for each preset
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
