#pragma once
// What a study says: every figure that a report, a recommendation or `study show` prints, computed from the rows alone.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/statistics.h"
#include "study/store.h"

namespace halftone {

// A paired comparison with the baseline on the same samples.
struct Difference : Interval {
  bool worse() const { return high < 0; }
  bool better() const { return low > 0; }
  // False where the interval covers zero: there are not enough samples to tell.
  bool tells() const { return worse() || better(); }
};

struct Accuracy {
  Interval value;  // mean of the samples' values, 0 to 1
  std::int64_t samples = 0, pictures = 0;
  std::optional<Difference> difference;  // none for the baseline, and where no sample is shared with it
  std::int64_t lost = 0, won = 0;        // samples whose value is lower, higher than the baseline's
  std::vector<ScoreRow> scores;

  // The benchmark's own figure; nothing when there is none.
  std::optional<double> score(std::string_view group, std::string_view metric) const;
  // The one number that stands for `task`, as the benchmark prints it: the sum of its headline figures, or the mean of
  // the samples in percent where there are none.
  double headline(const TaskRow& task) const;
};

struct Divergence {
  Interval kl;         // nats per token
  Interval agreement;  // share of tokens, 0 to 1
  std::int64_t samples = 0, tokens = 0;
};

struct Perplexity {
  Interval value;
  std::int64_t samples = 0, tokens = 0;
};

// Seconds. The parts of the time to first token are medians of their own, so that they need not add up to its median.
struct Speed {
  std::map<std::string, double> stages;  // by their names in kStages
  Summary ttft, per_token;
  std::int64_t repeats = 0;
};

struct ConfigurationSummary {
  ConfigurationRow row;
  std::map<std::string, Accuracy> accuracy;      // by task
  std::map<std::string, Divergence> divergence;  // by task
  std::map<std::string, Perplexity> perplexity;  // by task
  std::map<std::string, Speed> speed;            // by workload
  std::vector<MemoryRow> memory;
  std::optional<QuantizationRow> quantization;

  // Bytes of all components whose name begins with "weights/".
  std::int64_t weight_bytes() const;
  // The mean over the tasks of the differences to the baseline; nothing when there is none.
  std::optional<double> mean_difference() const;
  // Of the first task of its kind.
  std::optional<double> mean_kl() const;
};

struct StudySummary {
  StudyInfo info;
  std::string baseline;
  std::vector<TaskRow> tasks;
  std::vector<std::string> workloads;
  std::vector<ConfigurationSummary> configurations;
  std::map<std::string, std::string> notes;

  // Null when the study has not come to it yet.
  const ConfigurationSummary* find(std::string_view configuration) const;
  std::vector<const TaskRow*> tasks_of(TaskKind kind) const;
  // Configurations that differ in the format of the KV cache alone: one list for each recipe that has several.
  std::vector<std::vector<const ConfigurationSummary*>> kv_ablations() const;
  // "vqav2 of fp8: 120 of 500 samples", one for each thing that is missing.
  std::vector<std::string> unfinished() const;
};

// All figures; times in seconds, sizes in bytes, accuracies and differences as shares from 0 to 1.
Json to_json(const StudySummary& study);

// Throws Error when the study names no baseline.
StudySummary summarize_study(const Store& store);

}  // namespace halftone
