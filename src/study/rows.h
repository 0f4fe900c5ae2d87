#pragma once
// What a study file holds, as plain values. Columns named `seconds`, `created`, `stages` and the components of memory
// that are marked measured depend on the machine and the hour; all others are equal in every run of the same study.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace halftone {

// What makes two runs the same study. Everything of `settings` must be equal for a run to be continued.
struct StudyInfo {
  std::string name;
  std::string program;       // name and version
  std::string program_hash;  // SHA-256 of the executable
  std::string created;       // UTC, ISO 8601
  Json settings;             // the YAML with defaults filled in, and the hashes of data, weights, prompts and recipes
  Json machine;              // processor, cores, memory, operating system
};

struct ConfigurationRow {
  std::string name;  // "fp8+kv:fp8_calibrated"
  std::string recipe;
  std::string weights, inputs;  // formats of the quantized linear layers; several joined by ", "; "none" without any
  std::string kv_format;
  std::string weights_hash;  // SHA-256 of all tensors as quantized
  std::string numerics;      // "f32" or "bf16"
  std::string products;      // "native" or "emulated"
  std::string instruction_set;
  std::int64_t min_pixels = 0, max_pixels = 0;
  std::int64_t kv_bytes_per_token = 0;
  bool calibrated = false;  // some scale was found on calibration data
};

enum class TaskKind { kAccuracy, kKl, kPerplexity };

struct TaskRow {
  std::string name;
  std::string title;  // "VQAv2"
  TaskKind kind = TaskKind::kAccuracy;
  std::string data_hash;
  std::string prompts;  // name of the preset
  std::string prompt_hash;
  std::int64_t samples = 0;           // how many the study asks for
  std::int64_t max_new_tokens = 0;    // 0: nothing is generated
  std::vector<std::string> metrics;   // of ScoreRows of the whole task: those that a summary shows, in this order
  std::vector<std::string> headline;  // of these; their sum is the one number that stands for the task
  std::string part_metric;            // of ScoreRows of its parts: shown in a table of its own; empty: no such table
  std::string part_note;              // what the numbers of that table mean
  std::string note;                   // what the numbers mean: the scorer's variant, the windows, ...
};

// One answer. Key: configuration, task, id.
struct SampleRow {
  std::string configuration, task;
  std::string id;       // "vqav2/1123000"
  std::string picture;  // SHA-256 of the picture's file: samples of one picture are not independent
  std::string answer;   // as generated
  std::vector<std::int32_t> tokens;
  double value = 0;                 // of the sample by the task's headline metric, 0 to 1
  std::vector<std::string> groups;  // the parts of the task it counts in: a POPE split, an MME task, an answer type
  Json score;                       // everything that the scorer says
  double seconds = 0;
};

// Sums over the tokens of one answer or window, teacher-forced. Key: configuration, task, id.
struct LikelihoodRow {
  std::string configuration, task;
  std::string id;
  std::string picture;  // empty without one
  std::int64_t tokens = 0;
  double nll = 0;               // natural units
  std::optional<double> kl;     // from the baseline, natural units; none for perplexity
  std::int64_t top1_agree = 0;  // tokens where the likeliest token is the baseline's
  double seconds = 0;
};

// A figure by a benchmark's own rules over all samples of a task: "f1" of "random", "score" of "existence".
struct ScoreRow {
  std::string group;  // empty: the whole task
  std::string metric;
  double value = 0;  // as the benchmark prints it: percent, points, ...
  std::int64_t samples = 0;
};

// One repeat of a workload. Key: configuration, workload, repeat.
struct TimingRow {
  std::string configuration, workload;
  std::int64_t repeat = 0;
  Json stages;  // seconds by name: decode, resize, vision, prefill, first_token, per_token; counts: prompt_tokens, ...
};

// What the names of components begin with that are weights.
inline constexpr std::string_view kWeightsPrefix = "weights/";

struct MemoryRow {
  std::string configuration;
  std::string component;
  std::int64_t bytes = 0;
  bool measured = false;  // by the kernel; else counted from shapes
};

struct QuantizationRow {
  std::string configuration;
  std::string folder;
  Json report;
  double seconds = 0;
};

}  // namespace halftone
