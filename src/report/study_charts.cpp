#include "report/study_charts.h"

#include <algorithm>
#include <functional>

#include "report/figures.h"

namespace halftone {
namespace {

using Configurations = std::vector<const ConfigurationSummary*>;
using Value = std::function<Mark(const ConfigurationSummary&)>;

constexpr const char* kEmulatedNote =
    "* products emulated on this machine with the rounding of the format: its results hold, its speed does not.";

Configurations all_of(const StudySummary& study) {
  Configurations all;
  for (const ConfigurationSummary& c : study.configurations) all.push_back(&c);
  return all;
}

std::vector<std::string> row_names(const Configurations& configurations, bool mark_emulated) {
  std::vector<std::string> names;
  for (const auto* c : configurations) {
    names.push_back(c->row.name + (mark_emulated && c->row.products == "emulated" ? " *" : ""));
  }
  return names;
}

Series series_of(const Configurations& configurations, std::string name, Color color, const Value& value) {
  Series series{std::move(name), color, {}};
  for (const auto* c : configurations) series.marks.push_back(value(*c));
  return series;
}

bool is_empty(const Panel& panel) {
  return std::all_of(panel.series.begin(), panel.series.end(), [](const Series& series) {
    return std::all_of(series.marks.begin(), series.marks.end(), [](const Mark& mark) { return !mark.value; });
  });
}

// Adds the chart unless all its panels are empty.
void add(std::vector<NamedChart>& charts, const std::string& name, const std::string& caption, RowChart chart) {
  std::erase_if(chart.panels, is_empty);
  if (!chart.panels.empty()) charts.push_back({name, caption, render(chart)});
}

Color verdict_color(const std::optional<Difference>& difference) {
  if (!difference) return colors::kInk;
  return difference->worse() ? colors::kRed : difference->better() ? colors::kGreen : colors::kBlue;
}

RowChart speed_chart(const StudySummary& study, const std::string& workload) {
  const Configurations all = all_of(study);
  const auto of = [&](const ConfigurationSummary& c) {
    const auto it = c.speed.find(workload);
    return it == c.speed.end() ? nullptr : &it->second;
  };
  Panel ttft{.title = "time to first token, ms", .series = {}, .reference = {}};
  const std::pair<const char*, Color> stages[] = {{"decode", colors::kPurple},
                                                  {"resize", colors::kOrange},
                                                  {"vision", colors::kSky},
                                                  {"prefill", colors::kBlue},
                                                  {"first_token", colors::kGreen}};
  for (const auto& [stage, color] : stages) {
    ttft.series.push_back(series_of(all, stage_title(stage), color, [&, key = stage](const auto& c) {
      const Speed* speed = of(c);
      return speed ? Mark{1000 * speed->stages.at(key), {}, {}, {}} : Mark{};
    }));
  }
  Panel decode{.title = "decode, ms per token", .series = {}, .reference = {}, .decimals = 2};
  decode.series.push_back(series_of(all, "", colors::kBlue.lighter(0.25), [&](const auto& c) {
    const Speed* speed = of(c);
    if (!speed) return Mark{};
    return Mark{
        1000 * speed->per_token.median, 1000 * speed->per_token.median_low, 1000 * speed->per_token.median_high, {}};
  }));
  return {.title = "Speed: " + workload, .note = kEmulatedNote, .rows = row_names(all, true), .panels = {ttft, decode}};
}

RowChart memory_chart(const StudySummary& study) {
  const Configurations all = all_of(study);
  std::vector<std::string> parts = {"weights kept as they are", "weights, quantized", "scales"};
  for (const auto* c : all) {
    for (const MemoryRow& row : c->memory) {
      const std::string part = memory_part_title(row);
      if (!row.measured && !std::count(parts.begin(), parts.end(), part)) parts.push_back(part);
    }
  }
  const Color palette[] = {colors::kGrey.lighter(0.35), colors::kBlue, colors::kOrange, colors::kSky, colors::kPurple};
  Panel memory{.title = "memory, MiB", .series = {}, .reference = {}};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    memory.series.push_back(series_of(all, parts[i], palette[std::min<std::size_t>(i, 4)], [&](const auto& c) {
      std::int64_t bytes = 0;
      for (const MemoryRow& row : c.memory)
        bytes += !row.measured && memory_part_title(row) == parts[i] ? row.bytes : 0;
      return bytes ? Mark{mebibytes(bytes), {}, {}, {}} : Mark{};
    }));
  }
  Panel cache{.title = "KV cache, KiB per token", .series = {}, .reference = {}};
  cache.series.push_back(series_of(all, "", colors::kGreen, [](const auto& c) {
    return Mark{static_cast<double>(c.row.kv_bytes_per_token) / 1024, {}, {}, {}};
  }));
  return {.title = "Memory by component", .note = "", .rows = row_names(all, false), .panels = {memory, cache}};
}

RowChart accuracy_chart(const StudySummary& study) {
  const Configurations all = all_of(study);
  RowChart chart{
      .title = "Accuracy, % of samples, with 95 % intervals",
      .note =
          "Red: shown to be worse than the baseline. Blue: not enough samples to tell. Dashed: the baseline. "
          "Intervals are of each accuracy; the comparison is paired and far sharper.",
      .rows = row_names(all, false),
      .panels = {}};
  for (const TaskRow* task : study.tasks_of(TaskKind::kAccuracy)) {
    Panel panel{.title = task->title, .kind = Panel::Kind::kDots, .series = {}, .reference = {}};
    panel.series.push_back(series_of(all, "", colors::kBlue, [&](const auto& c) {
      const auto it = c.accuracy.find(task->name);
      if (it == c.accuracy.end()) return Mark{};
      const Accuracy& a = it->second;
      return Mark{100 * a.value.value, std::max(0.0, 100 * a.value.low), std::min(100.0, 100 * a.value.high),
                  verdict_color(a.difference)};
    }));
    if (const auto* baseline = study.find(study.baseline); baseline && baseline->accuracy.contains(task->name)) {
      panel.reference = 100 * baseline->accuracy.at(task->name).value.value;
    }
    chart.panels.push_back(std::move(panel));
  }
  return chart;
}

// The benchmark's own points of the whole task: perception and cognition.
RowChart mme_chart(const StudySummary& study) {
  const Configurations all = all_of(study);
  RowChart chart{.title = "MME, points", .note = "", .rows = row_names(all, false), .panels = {}};
  const std::pair<const char*, Color> parts[] = {{"perception", colors::kBlue}, {"cognition", colors::kOrange}};
  for (const auto& [metric, color] : parts) {
    Panel panel{.title = metric, .series = {}, .reference = {}};
    panel.series.push_back(series_of(all, "", color.lighter(0.2), [&, key = metric](const auto& c) {
      const auto it = c.accuracy.find("mme");
      return it == c.accuracy.end() ? Mark{} : Mark{it->second.score("", key), {}, {}, {}};
    }));
    chart.panels.push_back(std::move(panel));
  }
  return chart;
}

std::pair<std::string, Color> family(const ConfigurationRow& row) {
  if (row.recipe.starts_with("int8")) return {"INT8", colors::kBlue};
  if (row.recipe.starts_with("int4")) return {"INT4", colors::kOrange};
  if (row.recipe.starts_with("fp8")) return {"FP8", colors::kPurple};
  if (row.recipe.starts_with("nvfp4")) return {"NVFP4", colors::kGreen};
  return {row.recipe, colors::kInk};
}

ScatterChart tradeoff_chart(const StudySummary& study) {
  ScatterChart chart{.title = "What each configuration costs and saves",
                     .note = "Below and to the left is better. Rings: products emulated on this machine.",
                     .x_title = "weights, MiB",
                     .y_title = "KL divergence from the baseline, nats per token",
                     .log_y = true,
                     .points = {},
                     .legend = {}};
  for (const ConfigurationSummary& c : study.configurations) {
    const auto kl = c.mean_kl();
    // A logarithmic axis has no zero; and nothing diverges by zero but the baseline.
    if (!kl || *kl <= 0 || c.weight_bytes() == 0) continue;
    const auto entry = family(c.row);
    const auto is_shown = [&](const auto& other) { return other.first == entry.first; };
    if (std::none_of(chart.legend.begin(), chart.legend.end(), is_shown)) chart.legend.push_back(entry);
    chart.points.push_back({c.row.name, mebibytes(c.weight_bytes()), *kl, entry.second, c.row.products != "emulated"});
  }
  return chart;
}

RowChart fp8_chart(const StudySummary& study) {
  Configurations fp8;
  for (const auto& c : study.configurations) {
    if (c.row.recipe == "fp8") fp8.push_back(&c);
  }
  RowChart chart{.title = "FP8: what the format of the KV cache changes",
                 .note =
                     "Against the baseline. fp8: scale 1.0; fp8_calibrated: one scale a tensor; fp8_head: one a head; "
                     "fp8_debiased: keys stored without their bias.",
                 .rows = {},
                 .panels = {}};
  for (const auto* c : fp8) chart.rows.push_back(c->row.kv_format);
  if (fp8.size() < 2) return chart;
  Panel kl{.title = "KL, nats per token", .series = {}, .reference = {}, .decimals = 3};
  kl.series.push_back(series_of(fp8, "", colors::kPurple, [](const auto& c) {
    if (c.divergence.empty()) return Mark{};
    const Interval& value = c.divergence.begin()->second.kl;
    return Mark{value.value, std::max(0.0, value.low), value.high, {}};
  }));
  Panel agreement{.title = "same top choice, %", .kind = Panel::Kind::kDots, .series = {}, .reference = 100};
  agreement.series.push_back(series_of(fp8, "", colors::kBlue, [](const auto& c) {
    if (c.divergence.empty()) return Mark{};
    const Interval& value = c.divergence.begin()->second.agreement;
    return Mark{100 * value.value, 100 * value.low, std::min(100.0, 100 * value.high), {}};
  }));
  chart.panels = {kl, agreement};
  for (const TaskRow* task : study.tasks_of(TaskKind::kAccuracy)) {
    if (chart.panels.size() == 4) break;
    Panel panel{.title = task->title + ", points", .kind = Panel::Kind::kDots, .series = {}, .reference = 0};
    panel.series.push_back(series_of(fp8, "", colors::kBlue, [&](const auto& c) {
      const auto it = c.accuracy.find(task->name);
      if (it == c.accuracy.end() || !it->second.difference) return Mark{};
      const Difference& d = *it->second.difference;
      return Mark{100 * d.value, 100 * d.low, 100 * d.high, verdict_color(d)};
    }));
    chart.panels.push_back(std::move(panel));
  }
  return chart;
}

}  // namespace

std::vector<NamedChart> draw_study_charts(const StudySummary& study) {
  std::vector<NamedChart> charts;
  const ScatterChart tradeoff = tradeoff_chart(study);
  if (!tradeoff.points.empty()) {
    charts.push_back({"tradeoff", "Divergence from the baseline against the size of the weights.", render(tradeoff)});
  }
  add(charts, "accuracy", "Accuracy by task with 95 % intervals.", accuracy_chart(study));
  add(charts, "mme", "MME by its own points.", mme_chart(study));
  for (std::size_t i = 0; i < study.workloads.size(); ++i) {
    const std::string& workload = study.workloads[i];
    add(charts, i == 0 ? "speed" : "speed_" + workload, "Time to first token by stage, and decoding: " + workload + ".",
        speed_chart(study, workload));
  }
  add(charts, "memory", "Memory by component.", memory_chart(study));
  add(charts, "fp8_kv", "FP8 with each format of the KV cache.", fp8_chart(study));
  return charts;
}

}  // namespace halftone
