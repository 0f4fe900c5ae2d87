#include <set>

#include "report/figures.h"
#include "report/sections.h"
#include "report/table.h"

namespace halftone {
namespace {

std::string verdict(const Difference& difference) {
  if (difference.worse()) return "worse";
  if (difference.better()) return "better";
  return "not enough samples to tell";
}

std::string metric_cell(const Accuracy& accuracy, const std::string& group, const std::string& metric) {
  const auto value = accuracy.score(group, metric);
  return value ? fmt::format("{:.1f}", *value) : "";
}

std::string task_table(const StudySummary& study, const TaskRow& task) {
  std::vector<std::string> header = {"configuration"};
  header.insert(header.end(), task.metrics.begin(), task.metrics.end());
  header.insert(header.end(), {"samples right, % [95 %]", "n", "difference, points [95 %]", "lost", "won", "verdict"});
  Table table(header);
  for (const ConfigurationSummary& c : study.configurations) {
    const auto it = c.accuracy.find(task.name);
    if (it == c.accuracy.end()) continue;
    const Accuracy& a = it->second;
    std::vector<std::string> cells = {c.row.name};
    for (const std::string& metric : task.metrics) cells.push_back(metric_cell(a, "", metric));
    cells.insert(cells.end(), {percent_text(a.value), std::to_string(a.samples)});
    if (a.difference) {
      cells.insert(cells.end(),
                   {points_text(*a.difference), std::to_string(a.lost), std::to_string(a.won), verdict(*a.difference)});
    } else {
      cells.insert(cells.end(), {"", "", "", c.row.name == study.baseline ? "baseline" : ""});
    }
    table.add(std::move(cells));
  }
  return table.markdown();
}

}  // namespace

std::string accuracy_section(const StudySummary& study) {
  const auto tasks = study.tasks_of(TaskKind::kAccuracy);
  if (tasks.empty()) return "";
  std::string text =
      "## Accuracy\n\nEvery configuration answers the same questions. The difference to the baseline is paired by "
      "question; intervals take the questions on one picture as one observation, and those of differences count one "
      "change in each direction that did not happen (Bonett and Price 2012), so that a handful of changed answers is "
      "not taken for an effect. *Lost* and *won* count the answers that got worse and better. A benchmark's own "
      "figures may weigh samples otherwise (POPE counts a yes question in each of its splits), so that they need not "
      "equal the share of samples that are right.\n";
  for (const TaskRow* task : tasks) {
    text += fmt::format("\n### {}\n\n{}", task->title, task_table(study, *task));
    if (!task->note.empty()) text += "\n" + task->note + "\n";
  }
  return text;
}

namespace {

// The parts that have a figure, in the benchmark's order. All configurations have the same.
std::vector<std::string> parts_of(const StudySummary& study, const TaskRow& task) {
  std::vector<std::string> parts;
  if (task.part_metric.empty()) return parts;
  for (const ConfigurationSummary& c : study.configurations) {
    const auto it = c.accuracy.find(task.name);
    if (it == c.accuracy.end()) continue;
    for (const ScoreRow& row : it->second.scores) {
      if (row.metric == task.part_metric && !row.group.empty()) parts.push_back(row.group);
    }
    return parts;
  }
  return parts;
}

}  // namespace

std::string parts_section(const StudySummary& study) {
  std::string text;
  for (const TaskRow* task : study.tasks_of(TaskKind::kAccuracy)) {
    const std::vector<std::string> parts = parts_of(study, *task);
    if (parts.empty()) continue;
    std::vector<std::string> header = {"configuration"};
    header.insert(header.end(), parts.begin(), parts.end());
    header.insert(header.end(), task->metrics.begin(), task->metrics.end());
    Table table(header);
    for (const ConfigurationSummary& c : study.configurations) {
      const auto it = c.accuracy.find(task->name);
      if (it == c.accuracy.end()) continue;
      std::vector<std::string> cells = {c.row.name};
      for (const std::string& part : parts) cells.push_back(metric_cell(it->second, part, task->part_metric));
      for (const std::string& metric : task->metrics) cells.push_back(metric_cell(it->second, "", metric));
      table.add(std::move(cells));
    }
    text += fmt::format("{}## {} by part: {}\n\n{}{}{}", text.empty() ? "" : "\n", task->title, task->part_metric,
                        task->part_note, task->part_note.empty() ? "" : "\n\n", table.markdown());
  }
  return text;
}

std::string divergence_section(const StudySummary& study) {
  const auto kl = study.tasks_of(TaskKind::kKl), perplexity = study.tasks_of(TaskKind::kPerplexity);
  if (kl.empty() && perplexity.empty()) return "";
  std::string text = "## Divergence and perplexity\n";
  for (const TaskRow* task : kl) {
    Table table({"configuration", "KL, nats per token [95 %]", "same top choice, % [95 %]", "samples", "tokens"});
    for (const ConfigurationSummary& c : study.configurations) {
      const auto it = c.divergence.find(task->name);
      if (it == c.divergence.end()) continue;
      const Divergence& d = it->second;
      table.add({c.row.name, fmt::format("{:.4f} [{:.4f}, {:.4f}]", d.kl.value, std::max(0.0, d.kl.low), d.kl.high),
                 percent_text(d.agreement), std::to_string(d.samples), std::to_string(d.tokens)});
    }
    if (!table.empty()) text += fmt::format("\n### {}\n\n{}\n\n{}", task->title, task->note, table.markdown());
  }
  for (const TaskRow* task : perplexity) {
    Table table({"configuration", "perplexity [95 %]", "samples", "tokens"});
    for (const ConfigurationSummary& c : study.configurations) {
      const auto it = c.perplexity.find(task->name);
      if (it == c.perplexity.end()) continue;
      const Perplexity& p = it->second;
      table.add({c.row.name, fmt::format("{:.4f} [{:.4f}, {:.4f}]", p.value.value, p.value.low, p.value.high),
                 std::to_string(p.samples), std::to_string(p.tokens)});
    }
    if (!table.empty()) text += fmt::format("\n### {}\n\n{}\n\n{}", task->title, task->note, table.markdown());
  }
  return text;
}

}  // namespace halftone
