#include <fmt/ranges.h>

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

// The benchmark's own figure. "?" marks a difference that the samples do not tell, "-" and "+" one that they do.
std::string headline(const TaskRow& task, const ConfigurationSummary& c) {
  const auto it = c.accuracy.find(task.name);
  if (it == c.accuracy.end()) return "";
  const Accuracy& a = it->second;
  const char* mark = !a.difference ? "" : a.difference->worse() ? " -" : a.difference->better() ? " +" : " ?";
  return fmt::format("{:.1f}{}", a.headline(task), mark);
}

// Of the study's first task of its kind.
std::string perplexity_cell(const StudySummary& study, const ConfigurationSummary& c) {
  const auto tasks = study.tasks_of(TaskKind::kPerplexity);
  const auto it = tasks.empty() ? c.perplexity.end() : c.perplexity.find(tasks.front()->name);
  return it == c.perplexity.end() ? "" : fmt::format("{:.3f}", it->second.value.value);
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
    cells.push_back(perplexity_cell(study, c));
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
  std::string text;
  const auto tasks = study.tasks_of(TaskKind::kAccuracy);
  if (!tasks.empty()) text += "- Each task shows its benchmark's own figure:";
  for (const TaskRow* task : tasks) {
    text += fmt::format("{} {} {} (n = {})", task == tasks.front() ? "" : ",", task->title,
                        task->headline.empty() ? "accuracy" : fmt::format("{}", fmt::join(task->headline, " + ")),
                        task->samples);
  }
  if (!tasks.empty()) {
    text +=
        ". After it: `-` shown to be worse than the baseline, `+` better, `?` not enough samples to tell (the 95 % "
        "interval of the paired difference covers zero).\n";
  }
  if (!study.tasks_of(TaskKind::kKl).empty()) {
    text +=
        "- KL: divergence from the baseline in nats per token, on the baseline's own answers; top-1: share of these "
        "tokens where both find the same token the likeliest.\n";
  }
  if (const auto texts = study.tasks_of(TaskKind::kPerplexity); !texts.empty()) {
    text += fmt::format("- PPL: {}. {}\n", texts.front()->title, texts.front()->note);
  }
  if (!study.workloads.empty()) {
    text += fmt::format(
        "- TTFT: time to first token of the workload `{}`, from the bytes of the picture to the first token of the "
        "answer; decode/token: each further token. Medians.\n",
        study.workloads.front());
  }
  return "\n" + text +
         "- Products: `native` ones were computed by instructions of their own format (or of the weights decoded to the "
         "type of the inputs); `emulated` ones round as their format does but ran in a wider type, because this machine "
         "has no instructions for it: their accuracy holds, their speed says nothing about hardware that has them.\n";
}

}  // namespace halftone
