#include <algorithm>

#include "driver/study_runner.h"

namespace halftone {

std::int64_t StudyRunner::missing_speed_cost(const std::string& configuration) const {
  std::int64_t missing = 0;
  for (const Workload& workload : inputs_.workloads) {
    if (speed_is_done(configuration, workload)) continue;
    const auto done = static_cast<std::int64_t>(store_.timings(configuration, workload.name).size());
    missing += cost::kRepeat * (plan_.bench->repeats - done);
  }
  return missing;
}

std::int64_t StudyRunner::missing_cost(const std::string& configuration) const {
  const auto missing = [](const TaskRow& row, const std::set<std::string>& finished) {
    return std::max<std::int64_t>(0, row.samples - static_cast<std::int64_t>(finished.size()));
  };
  std::int64_t sum = missing_speed_cost(configuration);
  const auto quantized = store_.quantizations();
  const bool is_quantized = std::any_of(quantized.begin(), quantized.end(),
                                        [&](const QuantizationRow& row) { return row.configuration == configuration; });
  if (!is_quantized && !is_baseline(configuration)) sum += cost::kQuantize;
  for (const TaskInput& task : inputs_.tasks) {
    sum += cost::kAnswer * missing(task.row, store_.finished_samples(configuration, task.row.name));
  }
  for (const PerplexityInput& text : inputs_.perplexity) {
    sum += cost::kText * missing(text.row, store_.finished_likelihoods(configuration, text.row.name));
  }
  if (inputs_.kl) {
    sum += cost::kForced * missing(*inputs_.kl, store_.finished_likelihoods(configuration, inputs_.kl->name));
  }
  return sum;
}

std::string StudyRunner::budget_note(const std::string& configuration, const std::string& workload) {
  return fmt::format("{} on {}", configuration, workload);
}

bool StudyRunner::speed_is_done(const std::string& configuration, const Workload& workload) const {
  const auto repeats = static_cast<std::int64_t>(store_.timings(configuration, workload.name).size());
  return repeats >= plan_.bench->repeats || store_.notes().contains(budget_note(configuration, workload.name));
}

void StudyRunner::advance(std::int64_t cost) {
  done_ = std::min(done_ + cost, total_);
  if (options_.progress)
    options_.progress(plan_.name, done_ * kProgressWhole / std::max<std::int64_t>(1, total_), kProgressWhole);
}

void StudyRunner::check_stop() const {
  if (options_.stop.stop_requested()) throw Stopped{};
}

}  // namespace halftone
