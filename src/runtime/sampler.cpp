#include "runtime/sampler.h"

#include <cmath>
#include <limits>

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

Sampler::Sampler(const SamplingOptions& options) {
  require(std::isfinite(options.temperature) && options.temperature >= 0, kWhere,
          "expected a temperature of 0 or more, got {}", options.temperature);
  require(options.top_p > 0 && options.top_p <= 1, kWhere, "expected top_p above 0 and at most 1, got {}",
          options.top_p);
  require(options.top_k >= 0, kWhere, "expected top_k of 0 or more, got {}", options.top_k);
  draw_ = {options.temperature > 0 ? draw_keys_per_logit(options.temperature) : 0, options.top_p, options.top_k,
           options.seed};
}

Choice Sampler::choose(std::span<const float> logits) {
  Choice choice = largest_two(logits);
  if (draw_.greedy()) return choice;
  choice.token = draw_token(logits, choice.token, draw_);
  skip();
  return choice;
}

}  // namespace halftone
