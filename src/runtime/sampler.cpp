#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace halftone {
namespace {

constexpr std::string_view kWhere = "sampling";

// The two largest logits; throws unless all are finite.
Choice largest_two(std::span<const float> logits) {
  float first = -std::numeric_limits<float>::infinity(), second = first;
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float value = logits[i];
    require(std::isfinite(value), "logits", "expected finite numbers, got {} for token {}", value, i);
    if (value > first) {
      second = first;
      first = value;
      best = i;
    } else if (value > second) {
      second = value;
    }
  }
  return {static_cast<TokenId>(best), logits.size() > 1 ? first - second : 0.0f};
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  require(std::isfinite(options.temperature) && options.temperature >= 0, kWhere,
          "expected a temperature of 0 or more, got {}", options.temperature);
  require(options.top_p > 0 && options.top_p <= 1, kWhere, "expected top_p above 0 and at most 1, got {}",
          options.top_p);
  require(options.top_k >= 0, kWhere, "expected top_k of 0 or more, got {}", options.top_k);
}

Choice Sampler::choose(std::span<const float> logits) {
  Choice choice = largest_two(logits);
  if (options_.temperature > 0) choice.token = draw(logits);
  return choice;
}

TokenId Sampler::draw(std::span<const float> logits) {
  struct Candidate {
    float logit;
    TokenId token;
  };
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) candidates.push_back({logits[i], static_cast<TokenId>(i)});
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (options_.top_k > 0 && static_cast<std::size_t>(options_.top_k) < candidates.size()) {
    const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(options_.top_k);
    std::partial_sort(candidates.begin(), end, candidates.end(), before);
    candidates.erase(end, candidates.end());
  } else {
    std::sort(candidates.begin(), candidates.end(), before);
  }
  std::vector<double> weights;
  double total = 0;
  for (const Candidate& candidate : candidates) {
    weights.push_back(std::exp((static_cast<double>(candidate.logit) - candidates[0].logit) / options_.temperature));
    total += weights.back();
  }
  double kept = 0;
  std::size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < options_.top_p * total)) kept += weights[count++];
  double point = random_.uniform() * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    point -= weights[i];
    if (point < 0) return candidates[i].token;
  }
  return candidates[count - 1].token;
}

}  // namespace halftone
