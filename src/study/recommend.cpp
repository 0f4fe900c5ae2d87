#include "study/recommend.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace halftone {
namespace {

using Candidate = const ConfigurationSummary*;

// The limits of the rules. KL divergences in nats per token, drops as a share of answers.
constexpr double kBalanceKl = 0.05;
constexpr double kLargestDrop = 0.02;
constexpr double kCacheKl = 0.02;
constexpr double kBalanceTokens = 64;

bool shown_worse(Candidate c) {
  return std::any_of(c->accuracy.begin(), c->accuracy.end(),
                     [](const auto& task) { return task.second.difference && task.second.difference->worse(); });
}

double weights_ratio(Candidate c, Candidate baseline) {
  const auto whole = static_cast<double>(baseline->weight_bytes());
  return whole > 0 ? static_cast<double>(c->weight_bytes()) / whole : 1;
}

double answer_seconds(const Speed& speed) { return speed.ttft.median + kBalanceTokens * speed.per_token.median; }

// Time of one answer against the baseline's, the mean of the workloads. Emulated products say nothing about the speed
// of hardware that has them: they count as the baseline's.
double time_ratio(Candidate c, Candidate baseline) {
  if (c->row.products == "emulated") return 1;
  double sum = 0;
  int count = 0;
  for (const auto& [workload, speed] : c->speed) {
    const auto base = baseline->speed.find(workload);
    if (base == baseline->speed.end()) continue;
    sum += answer_seconds(speed) / answer_seconds(base->second);
    ++count;
  }
  return count ? sum / count : 1;
}

std::string numbers(Candidate c, Candidate baseline) {
  std::string text = fmt::format("weights {:.0f} % of the baseline's", 100 * weights_ratio(c, baseline));
  if (c->row.products == "emulated") {
    text += ", speed not counted (products emulated here)";
  } else if (!c->speed.empty()) {
    text += fmt::format(", an answer takes {:.0f} % of its time", 100 * time_ratio(c, baseline));
  }
  if (const auto kl = c->mean_kl()) text += fmt::format(", KL divergence {:.4f}", *kl);
  if (const auto drop = c->mean_difference()) text += fmt::format(", mean difference {:+.1f} points", 100 * *drop);
  return text;
}

struct Rule {
  std::string title, text;
  std::function<bool(Candidate)> admits;
  std::function<double(Candidate)> cost;  // the least wins; equal ones by KL divergence
};

// A cache in INT8 is none of these: it has the bytes of one in FP8, and another risk (docs/algorithms.md).
bool is_fp8(Candidate c) {
  const bool cache = c->row.kv_format == "bf16" || c->row.kv_format.starts_with("fp8");
  return cache && c->row.weights.starts_with("e4m3") && c->row.inputs.starts_with("e4m3");
}

double kl_or_zero(Candidate c) { return c->mean_kl().value_or(0); }

std::vector<Rule> rules(const StudySummary& study, Candidate baseline) {
  const auto not_worse = [](Candidate c) { return !shown_worse(c); };
  const auto small_drop = [](Candidate c) { return c->mean_difference().value_or(0) >= -kLargestDrop; };
  // Of the same recipe, with a cache that is not quantized.
  const auto with_plain_cache = [&study](Candidate c) -> Candidate {
    for (const ConfigurationSummary& other : study.configurations) {
      if (other.row.recipe == c->row.recipe && other.row.kv_format == "bf16") return &other;
    }
    return nullptr;
  };
  return {
      {"Best balance",
       fmt::format(
           "Of the configurations that are on no task shown to be worse than the baseline, whose mean accuracy is "
           "at most {:.0f} points below its, and that diverge by at most {} nats per token: the least product of "
           "weight bytes and time for an answer of {:.0f} tokens, both relative to the baseline. Emulated products "
           "count with the baseline's time.",
           100 * kLargestDrop, kBalanceKl, kBalanceTokens),
       [=](Candidate c) { return not_worse(c) && small_drop(c) && kl_or_zero(c) <= kBalanceKl; },
       [baseline](Candidate c) { return weights_ratio(c, baseline) * time_ratio(c, baseline); }},
      {"Smallest",
       fmt::format("Of the configurations whose mean accuracy over the tasks is at most {:.0f} points below the "
                   "baseline's: the fewest weight bytes.",
                   100 * kLargestDrop),
       small_drop, [](Candidate c) { return static_cast<double>(c->weight_bytes()); }},
      {"Safe without calibration",
       "Of the configurations that need no calibration data and are on no task shown to be worse than the baseline: "
       "the least KL divergence.",
       [not_worse](Candidate c) { return !c->row.calibrated && not_worse(c); }, kl_or_zero},
      {"FP8",
       fmt::format(
           "Of the configurations with weights and inputs in FP8 (E4M3) and a KV cache in FP8 or bf16: the fewest bytes "
           "of KV cache per token with a KL divergence at most {} nats above that of the same recipe with a bf16 cache.",
           kCacheKl),
       [with_plain_cache](Candidate c) {
         const Candidate plain = with_plain_cache(c);
         return is_fp8(c) && (!plain || kl_or_zero(c) <= kl_or_zero(plain) + kCacheKl);
       },
       [](Candidate c) { return static_cast<double>(c->row.kv_bytes_per_token); }},
  };
}

}  // namespace

std::vector<Recommendation> recommend(const StudySummary& study) {
  const Candidate baseline = study.find(study.baseline);
  std::vector<Recommendation> out;
  if (!baseline) return out;
  for (const Rule& rule : rules(study, baseline)) {
    Candidate best = nullptr;
    for (const ConfigurationSummary& c : study.configurations) {
      if (&c == baseline || !rule.admits(&c)) continue;
      if (!best || std::pair(rule.cost(&c), kl_or_zero(&c)) < std::pair(rule.cost(best), kl_or_zero(best))) best = &c;
    }
    out.push_back({rule.title, rule.text, best ? best->row.name : "",
                   best ? numbers(best, baseline) : "no configuration of this study meets the rule"});
  }
  return out;
}

}  // namespace halftone
