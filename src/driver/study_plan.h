#pragma once
// A study as its YAML file asks for it. Paths in the file are relative to the file.
//
//   name: demo
//   model: model                              # the checkpoint
//   seed: 1                                   # draws samples and calibration data
//   device: cpu                               # or cuda
//   numerics: f32                             # or bf16; on a GPU bf16
//   prompts: suite                            # the preset of all tasks; a task may name another one
//   pixels: {min: 3136, max: 50176}           # the checkpoint's budget unless said
//   baseline: bf16                            # must be the first of the configurations
//   configurations: [bf16, int8_wo, fp8, "fp8+kv:fp8_head"]
//   tasks:
//     vqav2: suite/vqav2                      # a folder, or:
//     pope: {data: suite/pope, limit: 300, prompts: lmms-eval}
//   kl: {samples: 100}                        # answers of the baseline, drawn over the tasks; left out: not measured
//   perplexity: {data: suite/text, window: 256, limit: 50}
//   calibration: {data: suite/captions, samples: 128, tokens: 512}
//   bench:
//     repeats: 30
//     warmup: 2
//     seconds: 10                             # time budget of one workload and configuration; 0: none
//     output_tokens: 32
//     workloads:
//       llava_bench: {data: suite/llava-bench, prompts: 6}
//       synthetic_448x336: {width: 448, height: 336, prompts: 4}
//   note: what this study is for
//
// A key that is not in this list is an error.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "vision/qwen2_vl_processor.h"

namespace halftone {

struct TaskPlan {
  std::string name;  // of eval's table
  std::filesystem::path data;
  std::int64_t limit = 0;  // 0: all
  std::string prompts;
};

struct KlPlan {
  std::int64_t samples = 100;  // 0: every answer
};

struct PerplexityPlan {
  std::filesystem::path data;
  std::int64_t window = 256;
  std::int64_t limit = 0;  // of the conversations and of the windows each; 0: all
};

struct CalibrationPlan {
  std::filesystem::path data;
  std::int64_t samples = 128, tokens = 512;
};

struct WorkloadPlan {
  std::string name;
  std::filesystem::path data;          // a LLaVA-Bench folder, or:
  std::int64_t width = 0, height = 0;  // of synthetic pictures
  std::int64_t prompts = 0;            // how many different ones; 0: all
};

struct BenchPlan {
  std::int64_t repeats = 30, warmup = 2, output_tokens = 64;
  double seconds = 0;
  std::vector<WorkloadPlan> workloads;
};

struct StudyPlan {
  std::string name, note;
  std::filesystem::path folder;  // that recipes' files are relative to
  std::filesystem::path model;
  std::uint64_t seed = 0;
  std::string device = "cpu";  // or "cuda"
  std::string numerics = "f32";
  std::optional<PixelBudget> pixels;
  std::string baseline;
  std::vector<std::string> configurations;
  std::vector<TaskPlan> tasks;
  std::optional<KlPlan> kl;
  std::optional<PerplexityPlan> perplexity;
  std::optional<CalibrationPlan> calibration;
  std::optional<BenchPlan> bench;
};

// What takes the place of the file's own keys; empty: the file's.
struct StudyOverrides {
  std::string device, numerics;
  std::vector<std::string> configurations;  // the first is the baseline
};

// Throws Error naming the file and the field: unknown keys, tasks, prompt presets and recipes, a baseline that is not
// the first configuration, calibration data missing where a configuration needs it, limits below zero, numerics that the
// device does not have.
StudyPlan parse_study_plan(std::string_view yaml, const std::filesystem::path& folder, std::string_view source,
                           const StudyOverrides& overrides = {});
StudyPlan read_study_plan(const std::filesystem::path& path, const StudyOverrides& overrides = {});

}  // namespace halftone
