#include <algorithm>

#include "base/stage_times.h"
#include "report/figures.h"
#include "report/sections.h"
#include "report/table.h"

namespace halftone {
namespace {

std::string median_text(const Summary& seconds) {
  return fmt::format("{} [{:.2f}, {:.2f}]", milliseconds(seconds.median), 1000 * seconds.median_low,
                     1000 * seconds.median_high);
}

std::string workload_tables(const StudySummary& study, const std::string& workload) {
  std::vector<std::string> header = {"configuration"};
  for (const Stage& stage : kStages) header.emplace_back(stage.title);
  header.insert(header.end(), {"TTFT [95 %]", "p90", "p99", "speed-up"});
  Table ttft(header);
  Table decode({"configuration", "per token [95 %]", "p90", "p99", "tokens/s", "speed-up", "repeats", "products"});
  const ConfigurationSummary* baseline = study.find(study.baseline);
  for (const ConfigurationSummary& c : study.configurations) {
    const auto it = c.speed.find(workload);
    if (it == c.speed.end()) continue;
    const Speed& s = it->second;
    const Speed* base = baseline && baseline->speed.contains(workload) ? &baseline->speed.at(workload) : nullptr;
    const auto speedup = [&](Summary Speed::*what) {
      return base ? speedup_text((base->*what).median, (s.*what).median) : "";
    };
    std::vector<std::string> cells = {c.row.name};
    for (const Stage& stage : kStages) cells.push_back(milliseconds(s.stages.at(std::string(stage.name))));
    cells.insert(cells.end(),
                 {median_text(s.ttft), milliseconds(s.ttft.p90), milliseconds(s.ttft.p99), speedup(&Speed::ttft)});
    ttft.add(std::move(cells));
    decode.add({c.row.name, median_text(s.per_token), milliseconds(s.per_token.p90), milliseconds(s.per_token.p99),
                fmt::format("{:.1f}", 1 / s.per_token.median), speedup(&Speed::per_token), std::to_string(s.repeats),
                c.row.products});
  }
  return fmt::format("\n### Time to first token: {}\n\n{}\n### Decoding: {}\n\n{}", workload, ttft.markdown(), workload,
                     decode.markdown());
}

// Quantized weights and scales, then what stayed as it was and all else by name, in the order of their appearance.
std::vector<std::string> memory_columns(const StudySummary& study) {
  std::vector<std::string> columns;
  const auto add = [&](const std::string& column) {
    if (!std::count(columns.begin(), columns.end(), column)) columns.push_back(column);
  };
  for (const bool first : {true, false}) {
    for (const ConfigurationSummary& c : study.configurations) {
      for (const MemoryRow& row : c.memory) {
        const std::string part = memory_part_title(row);
        const bool is_quantized = part == "weights, quantized" || part == "scales";
        if (is_quantized == first) add(is_quantized ? part : row.component);
      }
    }
  }
  return columns;
}

// A column's bytes; with their format where the column has several.
std::string memory_cell(const ConfigurationSummary& c, const std::string& column) {
  std::string text;
  for (const MemoryRow& row : c.memory) {
    const std::string part = memory_part_title(row);
    if (row.component != column && part != column) continue;
    text += (text.empty() ? "" : ", ") + size_text(row.bytes);
    if (part == "weights, quantized") text += " " + row.component.substr(row.component.find('/') + 1);
  }
  return text;
}

}  // namespace

std::string speed_section(const StudySummary& study) {
  if (study.workloads.empty()) return "";
  std::string text =
      "## Speed\n\nMedians over the repeats with their distribution-free 95 % interval. Time to first token (TTFT) is "
      "the sum of its stages, from the bytes of the picture's file to the first token; decoding is (last token - first "
      "token) / (tokens - 1) at a fixed output length. Pictures are encoded anew each time. Speed-ups are over the "
      "baseline on this machine; emulated products are slower than hardware that has them. Where a stage that "
      "configurations share (the vision tower, unless a recipe quantizes it) differs between them, the machine was busy "
      "with something else.\n";
  for (const std::string& workload : study.workloads) text += workload_tables(study, workload);
  return text;
}

std::string memory_section(const StudySummary& study) {
  const std::vector<std::string> columns = memory_columns(study);
  if (columns.empty()) return "";
  std::vector<std::string> header = {"configuration"};
  header.insert(header.end(), columns.begin(), columns.end());
  header.insert(header.end(), {"weights together", "of the baseline's", "KV per token"});
  Table table(header);
  const ConfigurationSummary* baseline = study.find(study.baseline);
  for (const ConfigurationSummary& c : study.configurations) {
    std::vector<std::string> cells = {c.row.name};
    for (const std::string& column : columns) cells.push_back(memory_cell(c, column));
    const bool known = baseline && baseline->weight_bytes() > 0 && c.weight_bytes() > 0;
    cells.push_back(size_text(c.weight_bytes()));
    cells.push_back(known ? fmt::format("{:.1f} %", 100.0 * static_cast<double>(c.weight_bytes()) /
                                                        static_cast<double>(baseline->weight_bytes()))
                          : "");
    cells.push_back(size_text(c.row.kv_bytes_per_token));
    table.add(std::move(cells));
  }
  return "## Memory\n\nCounted from the tensors that the engine holds (in f32 mode an unquantized cache holds f32). "
         "*Peak above idle* is the largest resident size of the process while it answered, as the kernel reports it, "
         "less what it held before the checkpoint was loaded.\n\n" +
         table.markdown();
}

std::string kv_ablation_section(const StudySummary& study) {
  std::string text;
  for (const auto& same_recipe : study.kv_ablations()) {
    Table table({"KV cache", "KL, nats per token", "same top choice, %", "mean difference, points", "KV per token"});
    for (const ConfigurationSummary* c : same_recipe) {
      const auto mean = c->mean_difference();
      const bool has_kl = !c->divergence.empty();
      table.add({c->row.kv_format, has_kl ? fmt::format("{:.4f}", *c->mean_kl()) : "",
                 has_kl ? percent_text(c->divergence.begin()->second.agreement) : "",
                 mean ? fmt::format("{:+.1f}", 100 * *mean) : "", size_text(c->row.kv_bytes_per_token)});
    }
    text += fmt::format("\nThe recipe `{}`:\n\n{}", same_recipe.front()->row.recipe, table.markdown());
  }
  if (text.empty()) return "";
  return "## The format of the KV cache\n\nOne recipe with several formats of the cache; everything else is equal. " +
         std::string(kKvFormatsNote) + "\n" + text;
}

}  // namespace halftone
