#pragma once
// Rows to put into studies.

#include <string>

#include "study/store.h"
#include "tests/base/temporary_folder.h"

namespace halftone::testing {

inline StudyInfo example_info() {
  return {.name = "example",
          .program = "halftone 0.1.0",
          .program_hash = "p1",
          .created = "2026-01-01T00:00:00Z",
          .settings = {{"seed", 1}, {"weights_hash", "w1"}, {"tasks", {{"vqav2", {{"data_hash", "d1"}}}}}},
          .machine = {{"processor", "a processor"}, {"cores", 2}}};
}

inline ConfigurationRow example_configuration(const std::string& recipe = "bf16", const std::string& kv = "bf16") {
  return {.name = kv == "bf16" ? recipe : recipe + "+kv:" + kv,
          .recipe = recipe,
          .weights = recipe == "bf16" ? "none" : recipe + "_weights",
          .inputs = "none",
          .kv_format = kv,
          .weights_hash = "w-" + recipe,
          .numerics = "f32",
          .products = "native",
          .instruction_set = "AVX2",
          .min_pixels = 3136,
          .max_pixels = 50176,
          .kv_bytes_per_token = 4096,
          .calibrated = false};
}

inline TaskRow example_task(const std::string& name = "vqav2", TaskKind kind = TaskKind::kAccuracy) {
  return {.name = name,
          .title = "VQAv2",
          .kind = kind,
          .data_hash = "d1",
          .prompts = "suite",
          .prompt_hash = "q1",
          .samples = 3,
          .max_new_tokens = 16,
          .metrics = {"vqav2"},
          .headline = {"vqav2"},
          .part_metric = "",
          .part_note = "",
          .note = "both sides normalised"};
}

inline SampleRow example_sample(const std::string& id, double value = 1) {
  return {.configuration = "bf16",
          .task = "vqav2",
          .id = id,
          .picture = "pic",
          .answer = "a \"quoted\" answer\n \xff",
          .tokens = {1, -2, 3},
          .value = value,
          .groups = {"yes/no"},
          .score = {{"value", value}},
          .seconds = 0.5};
}

}  // namespace halftone::testing
