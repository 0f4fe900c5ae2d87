#include "study/summary.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/estimate.h"
#include "base/stage_times.h"

namespace halftone {
namespace {

using Samples = std::vector<SampleRow>;

Accuracy summarize_samples(const Samples& samples) {
  Accuracy result;
  std::vector<Observation> all;
  std::set<std::string> pictures;
  for (const SampleRow& sample : samples) {
    const Observation observation{sample.picture, 1, sample.value};
    all.push_back(observation);
    pictures.insert(sample.picture);
  }
  result.value = share_with_interval(all);
  result.samples = static_cast<std::int64_t>(samples.size());
  result.pictures = static_cast<std::int64_t>(pictures.size());
  return result;
}

// The mean of paired differences from -1 to 1. Its interval is the adjusted one of Bonett and Price (2012): with one
// difference of +1 and one of -1 added, so that two or three changed answers, all one way, do not yet tell anything.
Difference paired_difference(std::vector<Observation> differences) {
  const double value = ratio_with_interval(differences).value;
  differences.push_back({"", 1, 1});
  differences.push_back({"", 1, -1});
  const Interval adjusted = ratio_with_interval(differences);
  return Difference{{value, std::min(adjusted.low, value), std::max(adjusted.high, value)}};
}

// Pairs by id; both lists are sorted by it.
void compare_with_baseline(const Samples& baseline, const Samples& samples, Accuracy& result) {
  std::vector<Observation> differences;
  auto base = baseline.begin();
  for (const SampleRow& sample : samples) {
    while (base != baseline.end() && base->id < sample.id) ++base;
    if (base == baseline.end() || base->id != sample.id) continue;
    const double difference = sample.value - base->value;
    result.lost += difference < 0;
    result.won += difference > 0;
    differences.push_back({sample.picture, 1, difference});
  }
  if (!differences.empty()) result.difference = paired_difference(std::move(differences));
}

Divergence summarize_divergence(const std::vector<LikelihoodRow>& rows) {
  Divergence result;
  std::vector<Observation> kl, agreement;
  for (const LikelihoodRow& row : rows) {
    const auto tokens = static_cast<double>(row.tokens);
    kl.push_back({row.picture, tokens, row.kl.value_or(0)});
    agreement.push_back({row.picture, tokens, static_cast<double>(row.top1_agree)});
    result.tokens += row.tokens;
  }
  result.samples = static_cast<std::int64_t>(rows.size());
  result.kl = ratio_with_interval(kl);
  result.agreement = share_with_interval(agreement);
  return result;
}

Perplexity summarize_perplexity(const std::vector<LikelihoodRow>& rows) {
  Perplexity result;
  std::vector<Observation> nll;
  for (const LikelihoodRow& row : rows) {
    nll.push_back({row.picture, static_cast<double>(row.tokens), row.nll});
    result.tokens += row.tokens;
  }
  result.samples = static_cast<std::int64_t>(rows.size());
  const Interval mean = ratio_with_interval(nll);
  result.value = {std::exp(mean.value), std::exp(mean.low), std::exp(mean.high)};
  return result;
}

Speed summarize_timings(const std::vector<TimingRow>& rows, const std::string& where) {
  std::map<std::string, std::vector<double>> stages;
  std::vector<double> ttft, per_token;
  for (const TimingRow& row : rows) {
    StageTimes times;
    for (const Stage& stage : kStages) {
      times.*stage.seconds = get_field<double>(row.stages, stage.name, where);
      stages[std::string(stage.name)].push_back(times.*stage.seconds);
    }
    ttft.push_back(times.ttft());
    per_token.push_back(get_field<double>(row.stages, "per_token", where));
  }
  Speed speed;
  for (auto& [stage, seconds] : stages) speed.stages[stage] = percentile(std::move(seconds), 50);
  speed.ttft = summarize(std::move(ttft));
  speed.per_token = summarize(std::move(per_token));
  speed.repeats = static_cast<std::int64_t>(rows.size());
  return speed;
}

// One configuration at a time is in memory, and the baseline's samples.
class Summarizer {
 public:
  Summarizer(const Store& store, const StudySummary& study) : store_(store), study_(study) {
    for (const TaskRow& task : study.tasks) {
      if (task.kind == TaskKind::kAccuracy) baseline_[task.name] = store.samples(study.baseline, task.name);
    }
  }

  ConfigurationSummary operator()(const ConfigurationRow& row) const {
    ConfigurationSummary result{row, {}, {}, {}, {}, store_.memory(row.name), {}};
    for (const TaskRow& task : study_.tasks) add_task(task, result);
    for (const std::string& workload : study_.workloads) {
      const auto rows = store_.timings(row.name, workload);
      if (!rows.empty()) result.speed[workload] = summarize_timings(rows, workload);
    }
    return result;
  }

 private:
  void add_task(const TaskRow& task, ConfigurationSummary& result) const {
    const std::string& name = result.row.name;
    if (task.kind == TaskKind::kAccuracy) {
      const Samples samples = store_.samples(name, task.name);
      if (samples.empty()) return;
      Accuracy accuracy = summarize_samples(samples);
      if (name != study_.baseline) compare_with_baseline(baseline_.at(task.name), samples, accuracy);
      accuracy.scores = store_.scores(name, task.name);
      result.accuracy.emplace(task.name, std::move(accuracy));
      return;
    }
    if (task.kind == TaskKind::kKl && name == study_.baseline) return;  // it does not diverge from itself
    const auto rows = store_.likelihoods(name, task.name);
    if (rows.empty()) return;
    if (task.kind == TaskKind::kKl) {
      result.divergence.emplace(task.name, summarize_divergence(rows));
    } else {
      result.perplexity.emplace(task.name, summarize_perplexity(rows));
    }
  }

  const Store& store_;
  const StudySummary& study_;
  std::map<std::string, Samples> baseline_;
};

std::int64_t finished_samples(const ConfigurationSummary& configuration, const TaskRow& task) {
  const auto count = [&](const auto& results) {
    const auto it = results.find(task.name);
    return it == results.end() ? std::int64_t{0} : it->second.samples;
  };
  switch (task.kind) {
    case TaskKind::kAccuracy:
      return count(configuration.accuracy);
    case TaskKind::kKl:
      return count(configuration.divergence);
    case TaskKind::kPerplexity:
      return count(configuration.perplexity);
  }
  return 0;
}

}  // namespace

std::optional<double> Accuracy::score(std::string_view group, std::string_view metric) const {
  for (const ScoreRow& row : scores) {
    if (row.group == group && row.metric == metric) return row.value;
  }
  return std::nullopt;
}

double Accuracy::headline(const TaskRow& task) const {
  double sum = 0;
  for (const std::string& metric : task.headline) {
    const auto figure = score("", metric);
    if (!figure) return 100 * value.value;
    sum += *figure;
  }
  return task.headline.empty() ? 100 * value.value : sum;
}

std::int64_t ConfigurationSummary::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const MemoryRow& component : memory)
    bytes += component.component.starts_with(kWeightsPrefix) ? component.bytes : 0;
  return bytes;
}

std::optional<double> ConfigurationSummary::mean_difference() const {
  double sum = 0;
  int count = 0;
  for (const auto& [task, result] : accuracy) {
    if (!result.difference) continue;
    sum += result.difference->value;
    ++count;
  }
  return count ? std::optional(sum / count) : std::nullopt;
}

std::optional<double> ConfigurationSummary::mean_kl() const {
  return divergence.empty() ? std::nullopt : std::optional(divergence.begin()->second.kl.value);
}

const ConfigurationSummary* StudySummary::find(std::string_view configuration) const {
  for (const ConfigurationSummary& c : configurations) {
    if (c.row.name == configuration) return &c;
  }
  return nullptr;
}

std::vector<const TaskRow*> StudySummary::tasks_of(TaskKind kind) const {
  std::vector<const TaskRow*> rows;
  for (const TaskRow& task : tasks) {
    if (task.kind == kind) rows.push_back(&task);
  }
  return rows;
}

std::vector<std::vector<const ConfigurationSummary*>> StudySummary::kv_ablations() const {
  std::vector<std::vector<const ConfigurationSummary*>> lists;
  for (const ConfigurationSummary& c : configurations) {
    const auto same = std::find_if(lists.begin(), lists.end(),
                                   [&](const auto& list) { return list.front()->row.recipe == c.row.recipe; });
    if (same == lists.end()) {
      lists.push_back({&c});
    } else {
      same->push_back(&c);
    }
  }
  std::erase_if(lists, [](const auto& list) { return list.size() < 2; });
  return lists;
}

std::vector<std::string> StudySummary::unfinished() const {
  std::vector<std::string> missing;
  if (const auto asked = info.settings.find("configurations"); asked != info.settings.end()) {
    for (const Json& name : *asked) {
      if (!find(name.get<std::string>())) missing.push_back(fmt::format("{}: not begun", name.get<std::string>()));
    }
  }
  for (const ConfigurationSummary& configuration : configurations) {
    for (const TaskRow& task : tasks) {
      const std::int64_t samples = finished_samples(configuration, task);
      // The baseline does not diverge from itself.
      if (samples >= task.samples || (task.kind == TaskKind::kKl && configuration.row.name == baseline)) continue;
      missing.push_back(
          fmt::format("{} of {}: {} of {} samples", task.name, configuration.row.name, samples, task.samples));
    }
  }
  return missing;
}

StudySummary summarize_study(const Store& store) {
  StudySummary study;
  study.info = store.info();
  study.baseline = get_field<std::string>(study.info.settings, "baseline", study.info.name);
  study.tasks = store.tasks();
  study.workloads = store.workloads();
  study.notes = store.notes();
  const Summarizer summarize_configuration(store, study);
  for (const ConfigurationRow& row : store.configurations()) {
    study.configurations.push_back(summarize_configuration(row));
  }
  for (QuantizationRow& row : store.quantizations()) {
    for (ConfigurationSummary& configuration : study.configurations) {
      if (configuration.row.name == row.configuration) configuration.quantization = std::move(row);
    }
  }
  return study;
}

}  // namespace halftone
