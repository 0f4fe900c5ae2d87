#pragma once
// A whole study made of random numbers: what the demo's study looks like, without a model. The same on every machine.

#include <algorithm>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/random.h"
#include "tests/study/example.h"

namespace halftone::testing {

struct SyntheticConfiguration {
  const char *recipe, *weights, *inputs, *kv_format, *products;
  bool calibrated;
  double flips;         // share of right answers that become wrong; a quarter of it the other way round
  double kl;            // nats per token
  double weight_bytes;  // per weight of the decoder's linear layers
  double speed;         // times of the decoder against the baseline's
};

inline const std::vector<SyntheticConfiguration>& synthetic_configurations() {
  static const std::vector<SyntheticConfiguration> rows = {
      {"bf16", "none", "none", "bf16", "native", false, 0, 0, 2, 1},
      {"int8_wo", "int8_channel", "none", "bf16", "native", false, 0.004, 0.0013, 1, 0.7},
      {"int4_wo", "int4_group128", "none", "bf16", "native", false, 0.07, 0.199, 0.5, 0.55},
      {"int8", "int8_channel", "int8_tensor", "bf16", "native", true, 0.06, 0.242, 1, 0.6},
      {"int8_sq", "int8_channel", "int8_tensor", "bf16", "native", true, 0.01, 0.006, 1, 0.6},
      {"fp8", "e4m3_tensor", "e4m3_tensor", "bf16", "emulated", true, 0.008, 0.009, 1, 1.3},
      {"int4_awq", "int4_group128", "none", "bf16", "native", true, 0.006, 0.03, 0.5, 0.55},
      {"nvfp4", "nvfp4_block16", "nvfp4_block16", "bf16", "emulated", true, 0.04, 0.12, 0.5, 1.6},
      {"nvfp4_w4a8", "nvfp4_block32", "e4m3_tensor", "bf16", "emulated", true, 0.03, 0.08, 0.5, 1.5},
      {"fp8", "e4m3_tensor", "e4m3_tensor", "fp8", "emulated", true, 0.12, 0.39, 1, 1.3},
      {"fp8", "e4m3_tensor", "e4m3_tensor", "fp8_calibrated", "emulated", true, 0.012, 0.024, 1, 1.3},
      {"fp8", "e4m3_tensor", "e4m3_tensor", "fp8_head", "emulated", true, 0.01, 0.015, 1, 1.3},
      {"fp8", "e4m3_tensor", "e4m3_tensor", "fp8_debiased", "emulated", true, 0.009, 0.011, 1, 1.3},
  };
  return rows;
}

class SyntheticStudy {
 public:
  explicit SyntheticStudy(Store& store) : store_(store) {}

  static StudyInfo info() {
    StudyInfo info = example_info();
    info.name = "synthetic";
    info.machine = {{"processor", "a processor with two cores"}, {"threads", 2}, {"memory_bytes", 8589934592}};
    Json names = Json::array();
    for (const auto& c : synthetic_configurations()) names.push_back(name(c));
    info.settings = {{"baseline", "bf16"},       {"configurations", names},
                     {"seed", 20250101},         {"model", "demo"},
                     {"weights_hash", "615b2f"}, {"calibration", {{"data_hash", "ca1b"}, {"samples", 128}}}};
    return info;
  }

  void fill() {
    add_tasks();
    for (const auto& configuration : synthetic_configurations()) add(configuration);
    store_.set_note("purpose", "Random numbers: they say nothing about any model.");
  }

 private:
  static std::string name(const SyntheticConfiguration& c) {
    return std::string(c.recipe) + (std::string(c.kv_format) == "bf16" ? "" : "+kv:" + std::string(c.kv_format));
  }

  void add_tasks() {
    const auto add = [&](const char* name, const char* title, TaskKind kind, std::int64_t samples,
                         std::vector<std::string> metrics, std::vector<std::string> headline, const char* note) {
      store_.add_task({.name = name,
                       .title = title,
                       .kind = kind,
                       .data_hash = sha256_hex(name),
                       .prompts = kind == TaskKind::kPerplexity ? "none" : "suite",
                       .prompt_hash = sha256_hex("prompt"),
                       .samples = samples,
                       .max_new_tokens = kind == TaskKind::kAccuracy ? 16 : 0,
                       .metrics = std::move(metrics),
                       .headline = std::move(headline),
                       .part_metric = title == std::string("MME") ? "score" : "",
                       .part_note = title == std::string("MME") ? "Points of each part." : "",
                       .note = note});
    };
    add("vqav2", "VQAv2", TaskKind::kAccuracy, 500, {"vqav2", "vqav2_upstream"}, {"vqav2"}, "both sides normalised");
    add("pope", "POPE", TaskKind::kAccuracy, 300, {"f1"}, {"f1"}, "each pair asked once");
    add("mme", "MME", TaskKind::kAccuracy, 240, {"perception", "cognition", "correct"}, {"perception", "cognition"},
        "");
    add("kl", "KL divergence", TaskKind::kKl, 100, {}, {}, "teacher-forced on the baseline's answers");
    add("perplexity", "Perplexity", TaskKind::kPerplexity, 60, {}, {}, "answers, one conversation at a time");
  }

  void add(const SyntheticConfiguration& c) {
    ConfigurationRow row = example_configuration(c.recipe, c.kv_format);
    row.weights_hash = sha256_hex(c.recipe);
    row.weights = c.weights;
    row.inputs = c.inputs;
    row.products = c.products;
    row.calibrated = c.calibrated;
    row.kv_bytes_per_token = std::string(c.kv_format) == "bf16" ? 8192 : 4096;
    // One transaction: thousands of rows in a tenth of the time.
    store_.write_together([&] {
      store_.add_configuration(row);
      add_samples(row.name, "vqav2", 500, 2, c, {"yes/no", "number", "other"});
      add_samples(row.name, "pope", 300, 6, c, {"random", "popular", "adversarial"});
      add_samples(row.name, "mme", 240, 2, c, {"existence", "count", "color", "code_reasoning"});
      add_likelihoods(row.name, c);
      add_measurements(row.name, c);
    });
    add_scores(row.name, c);
  }

  // Answers of the baseline come from the sample alone, so that configurations differ only where they flip.
  void add_samples(const std::string& configuration, const std::string& task, int count, int per_picture,
                   const SyntheticConfiguration& c, const std::vector<std::string>& groups) {
    Random truth(sha_seed(task)), flips(sha_seed(task + configuration));
    for (int i = 0; i < count; ++i) {
      bool right = truth.uniform() < 0.83;
      const double draw = flips.uniform();
      if (right ? draw < c.flips : draw < c.flips / 4) right = !right;
      const auto group = static_cast<std::size_t>(i / per_picture) % groups.size();
      store_.add_sample({.configuration = configuration,
                         .task = task,
                         .id = fmt::format("{}/{:04}", task, i),
                         .picture = fmt::format("{}-{}", task, i / per_picture),
                         .answer = right ? "Yes" : "No",
                         .tokens = {right ? 316 : 318, 2},
                         .value = right ? 1.0 : 0.0,
                         .groups = {groups[group]},
                         .score = Json::object(),
                         .seconds = 0.01});
    }
  }

  void add_likelihoods(const std::string& configuration, const SyntheticConfiguration& c) {
    Random random(sha_seed("kl" + configuration));
    const bool baseline = configuration == "bf16";
    for (int i = 0; i < 100 && !baseline; ++i) {
      const auto tokens = static_cast<std::int64_t>(2 + random.below(4));
      const auto lost = random.uniform() < c.flips ? 1 : 0;
      store_.add_likelihood({configuration, "kl", fmt::format("vqav2/{:04}", i), fmt::format("vqav2-{}", i / 2), tokens,
                             0.2, 2 * c.kl * random.uniform() * static_cast<double>(tokens), tokens - lost, 0.01});
    }
    Random text(sha_seed("text"));
    for (int i = 0; i < 60; ++i) {
      store_.add_likelihood({configuration, "perplexity", fmt::format("perplexity/{:03}", i), "", 20,
                             20 * (0.15 + 0.15 * text.uniform() + c.kl / 8), std::nullopt, 0, 0.01});
    }
  }

  void add_measurements(const std::string& configuration, const SyntheticConfiguration& c) {
    Random random(sha_seed("time" + configuration));
    const auto jitter = [&](double ms) { return ms / 1000 * (0.95 + 0.1 * random.uniform()); };
    for (int repeat = 0; repeat < 30; ++repeat) {
      store_.add_timing({configuration,
                         "llava_bench",
                         repeat,
                         {{"picture_decode", jitter(4)},
                          {"resize", jitter(2)},
                          {"vision", jitter(11)},
                          {"prefill", jitter(9 * c.speed)},
                          {"first_token", jitter(1.2 * c.speed)},
                          {"per_token", jitter(1.1 * c.speed)}}});
    }
    const auto bytes = [](double value) { return static_cast<std::int64_t>(value); };
    const double linear = 6.3e6, rest = 13.2e6;
    const bool plain = c.weight_bytes == 2;
    store_.set_memory(
        {configuration, plain ? "weights/bf16 (decoder)" : "weights/payload", bytes(linear * c.weight_bytes), false});
    if (!plain) store_.set_memory({configuration, "weights/scales", bytes(linear * c.weight_bytes / 16), false});
    store_.set_memory({configuration, "weights/bf16 (vision, embeddings)", bytes(rest), false});
    store_.set_memory({configuration, "workspace", 9437184, false});
    store_.set_memory({configuration, "peak", bytes(31e6 + linear * c.weight_bytes + rest), true});
    store_.add_quantization({configuration, "work/" + configuration, Json::object(), 1.5});
  }

  void add_scores(const std::string& configuration, const SyntheticConfiguration& c) {
    const double lost = 100 * c.flips;
    store_.set_scores(configuration, "vqav2",
                      std::vector<ScoreRow>{{"", "vqav2", 82.7 - lost, 500}, {"", "vqav2_upstream", 65.7 - lost, 500}});
    store_.set_scores(configuration, "pope", std::vector<ScoreRow>{{"", "f1", 84.7 - lost, 300}});
    store_.set_scores(configuration, "mme",
                      std::vector<ScoreRow>{{"", "perception", 500 - 3 * lost, 180},
                                            {"", "cognition", 170 - 2 * lost, 60},
                                            {"", "correct", 200 - 2 * lost, 240},
                                            {"existence", "score", 165 - lost, 60},
                                            {"count", "score", 175 - lost, 60},
                                            {"color", "score", 160 - lost, 60},
                                            {"code_reasoning", "score", 170 - 2 * lost, 60}});
  }

  static std::uint64_t sha_seed(const std::string& text) {
    return std::stoull(sha256_hex(text).substr(0, 15), nullptr, 16);
  }

  Store& store_;
};

}  // namespace halftone::testing
