#include "report/figures.h"
#include "report/report.h"
#include "report/sections.h"
#include "report/table.h"

namespace halftone {
namespace {

const Speed* first_speed(const StudySummary& study, const ConfigurationSummary& c) {
  if (study.workloads.empty()) return nullptr;
  const auto it = c.speed.find(study.workloads.front());
  return it == c.speed.end() ? nullptr : &it->second;
}

// The benchmark's own first figure; the mean of the samples where it has none. "?" marks a difference that the samples
// do not tell, "-" and "+" one that they do.
std::string headline(const TaskRow& task, const ConfigurationSummary& c) {
  const auto it = c.accuracy.find(task.name);
  if (it == c.accuracy.end()) return "";
  const Accuracy& a = it->second;
  double value = 0;
  if (task.name == "mme") {
    value = a.score("", "perception").value_or(0) + a.score("", "cognition").value_or(0);
  } else {
    const auto own = task.metrics.empty() ? std::nullopt : a.score("", task.metrics.front());
    value = own.value_or(100 * a.value.value);
  }
  const char* mark = !a.difference ? "" : a.difference->worse() ? " -" : a.difference->better() ? " +" : " ?";
  return fmt::format("{:.1f}{}", value, mark);
}

std::string divergence_cell(const ConfigurationSummary& c, bool agreement) {
  if (c.divergence.empty()) return "";
  const Divergence& d = c.divergence.begin()->second;
  return agreement ? fmt::format("{:.1f}", 100 * d.agreement.value) : fmt::format("{:.4f}", d.kl.value);
}

}  // namespace

std::string comparison_table(const StudySummary& study) {
  std::vector<std::string> header = {"configuration"};
  const auto tasks = study.tasks_of(TaskKind::kAccuracy);
  for (const TaskRow* task : tasks) header.push_back(task->title);
  header.insert(header.end(), {"KL", "top-1 %", "PPL", "TTFT", "decode/token", "weights", "products"});
  Table table(header);
  for (const ConfigurationSummary& c : study.configurations) {
    std::vector<std::string> cells = {c.row.name};
    for (const TaskRow* task : tasks) cells.push_back(headline(*task, c));
    cells.push_back(divergence_cell(c, false));
    cells.push_back(divergence_cell(c, true));
    cells.push_back(c.perplexity.empty() ? "" : fmt::format("{:.3f}", c.perplexity.begin()->second.value.value));
    const Speed* speed = first_speed(study, c);
    cells.push_back(speed ? milliseconds(speed->ttft.median) : "");
    cells.push_back(speed ? milliseconds(speed->per_token.median) : "");
    cells.push_back(c.weight_bytes() ? size_text(c.weight_bytes()) : "");
    cells.push_back(c.row.products);
    table.add(std::move(cells));
  }
  return table.markdown();
}

std::string comparison_legend(const StudySummary& study) {
  std::string text = "\nEach task shows its benchmark's own figure:";
  for (const TaskRow* task : study.tasks_of(TaskKind::kAccuracy)) {
    const std::string metric = task->name == "mme"     ? "perception + cognition"
                               : task->metrics.empty() ? "accuracy"
                                                       : task->metrics.front();
    text += fmt::format(" {} {} (n = {}),", task->title, metric, task->samples);
  }
  if (text.back() == ',') text.back() = '.';
  return text +
         " After it: `-` shown to be worse than the baseline, `+` better, `?` not enough samples to tell (the 95 % "
         "interval of the paired difference covers zero). KL: nats per token from the baseline on its own answers; "
         "top-1: tokens with the same likeliest choice. Emulated products round as the format does but run in a wider "
         "type: their speed says nothing about hardware that has them.\n";
}

}  // namespace halftone
