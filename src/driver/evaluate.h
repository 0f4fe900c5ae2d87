#pragma once
// `halftone eval`: one checkpoint, several tasks, official scorers; every answer is a line of a file that a second run
// goes on with.

#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "base/progress.h"
#include "eval/figure.h"
#include "runtime/engine.h"

namespace halftone {

struct EvaluateTask {
  std::string name;  // of eval's table
  std::filesystem::path data;
};

struct EvaluateOptions {
  std::vector<EvaluateTask> tasks;
  std::string prompts = "suite";  // preset
  std::int64_t limit = 0;         // samples of each task, drawn by picture from the seed; 0: all
  std::uint64_t seed = 0;
  int threads = 0;                // 0: all cores; one session each
  std::filesystem::path samples;  // JSON lines: the conditions, then one answer a line; "" keeps none
  std::stop_token stop;
  Progress progress;
};

struct TaskResult {
  std::string task;
  std::int64_t samples = 0;
  std::string data_hash, prompt_hash;
  std::vector<Figure> figures;
  std::vector<std::string> notes;  // on the data: parts that are missing, counts that differ from the published ones
};

struct EvaluateResult {
  bool finished = true;  // false: stopped before the end; the figures are of what was answered
  std::vector<TaskResult> tasks;
};

// Throws Error when `samples` is there and was made under other conditions (of the engine, but for its folder;
// data, prompts): the message names both.
EvaluateResult evaluate(const std::shared_ptr<const Engine>& engine, const EvaluateOptions& options);

}  // namespace halftone
