#pragma once
// How far the logits of a checkpoint on a GPU are from those on the CPU, both with numerics bf16; and, to compare that with,
// how far the CPU's are from its own with numerics f32: what rounding alone makes of the checkpoint.

#include <cmath>

#include "tests/runtime/some_prompts.h"

namespace halftone::testing {

struct DeviceDifference {
  std::int64_t tokens = 0;
  double mean_kl = 0, largest_kl = 0;  // nats, of the GPU's distribution from the CPU's
  std::int64_t same_first = 0;         // tokens whose largest logit is the same
  std::int64_t clear_flips = 0;        // others, although the CPU's largest logit led by more than 0.5
};

inline double kl_divergence(std::span<const float> p, std::span<const float> q) {
  const auto log_sum = [](std::span<const float> x) {
    double largest = -INFINITY, sum = 0;
    for (const float value : x) largest = std::max(largest, static_cast<double>(value));
    for (const float value : x) sum += std::exp(value - largest);
    return largest + std::log(sum);
  };
  const double p_sum = log_sum(p), q_sum = log_sum(q);
  double kl = 0;
  for (std::size_t i = 0; i < p.size(); ++i) kl += std::exp(p[i] - p_sum) * ((p[i] - p_sum) - (q[i] - q_sum));
  return kl;
}

inline EngineOptions bf16_on_cpu() {
  EngineOptions options;
  options.numerics = Numerics::kBF16;
  return options;
}
inline EngineOptions on_gpu() {
  EngineOptions options = bf16_on_cpu();
  options.device = Device::kCuda;
  options.device_sequences = 2;
  return options;
}

// Teacher-forced on the CPU's own answers of `answer_tokens` tokens to some_prompts().
inline DeviceDifference compare_engines(const std::filesystem::path& checkpoint, const EngineOptions& other,
                                        std::int64_t answer_tokens) {
  const auto cpu = Session::create(Engine::load(checkpoint, bf16_on_cpu()));
  const auto gpu = Session::create(Engine::load(checkpoint, other));
  SamplingOptions sampling;
  sampling.max_new_tokens = answer_tokens;
  sampling.ignore_eos = true;
  DeviceDifference difference;
  for (const Prompt& prompt : some_prompts()) {
    const std::vector<TokenId> answer = cpu->generate(prompt, sampling).tokens;
    std::vector<std::vector<float>> wanted;
    cpu->score(prompt, answer,
               [&](std::size_t, std::span<const float> logits) { wanted.emplace_back(logits.begin(), logits.end()); });
    gpu->score(prompt, answer, [&](std::size_t index, std::span<const float> logits) {
      const std::vector<float>& p = wanted.at(index);
      const double kl = kl_divergence(p, logits);
      ++difference.tokens;
      difference.mean_kl += kl;
      difference.largest_kl = std::max(difference.largest_kl, kl);
      const auto best = static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
      const auto found = static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      difference.same_first += best == found;
      difference.clear_flips += p[best] - p[found] > 0.5f;
    });
  }
  difference.mean_kl /= static_cast<double>(difference.tokens);
  return difference;
}

}  // namespace halftone::testing
