#pragma once
// Everything that a study reads before it begins, and the hashes that make it this study.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/workload.h"
#include "data/calibration.h"
#include "driver/study_plan.h"
#include "eval/prompts.h"
#include "eval/task.h"
#include "study/rows.h"

namespace halftone {

struct TaskInput {
  const Task* task = nullptr;
  PromptRule rule;
  TaskData data;
  TaskRow row;
};

// One of the two ways to count perplexity.
struct PerplexityInput {
  TaskData data;
  TaskRow row;
};

struct StudyInputs {
  std::vector<TaskInput> tasks;
  std::vector<PerplexityInput> perplexity;
  std::optional<TaskRow> kl;
  std::vector<Workload> workloads;
  StudyInfo info;
};

// Reads all data of the plan, and its pictures once for their hashes. Throws Error for whatever is missing or damaged.
StudyInputs read_study_inputs(const StudyPlan& plan, const Progress& progress);

}  // namespace halftone
