#include "report/study_charts.h"

#include <algorithm>
#include <functional>

#include "base/stage_times.h"
#include "report/figures.h"

namespace halftone {
namespace {

using Configurations = std::vector<const ConfigurationSummary*>;
using Value = std::function<Mark(const ConfigurationSummary&)>;

constexpr Color kPalette[] = {colors::kBlue,  colors::kOrange, colors::kPurple,
                              colors::kGreen, colors::kRed,    colors::kSky};

constexpr const char* kEmulatedNote =
    "Stages and totals are medians of their own. * products emulated on this machine with the rounding of the format: "
    "its results hold, its speed does not.";

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
  const Color colours[] = {colors::kPurple, colors::kOrange, colors::kSky, colors::kBlue, colors::kGreen};
  static_assert(std::size(colours) == std::size(kStages));
  for (std::size_t i = 0; i < std::size(kStages); ++i) {
    const std::string name(kStages[i].name);
    ttft.series.push_back(series_of(all, std::string(kStages[i].title), colours[i], [&](const auto& c) {
      const Speed* speed = of(c);
      return speed ? Mark{1000 * speed->stages.at(name), {}, {}, {}} : Mark{};
    }));
  }
  ttft.totals = series_of(all, "", colors::kInk, [&](const auto& c) {
                  const Speed* speed = of(c);
                  return speed ? Mark{1000 * speed->ttft.median, {}, {}, {}} : Mark{};
                }).marks;
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
          "Red: shown to be worse than the baseline, green: better, blue: not enough samples to tell. Dashed: the "
          "baseline. Intervals are of each accuracy; the paired comparison is sharper.",
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

// A headline that is a sum of the benchmark's own points, term by term.
RowChart points_chart(const StudySummary& study, const TaskRow& task) {
  const Configurations all = all_of(study);
  RowChart chart{.title = task.title + ", points", .note = "", .rows = row_names(all, false), .panels = {}};
  for (const std::string& metric : task.headline) {
    const Color color = kPalette[chart.panels.size() % std::size(kPalette)];
    Panel panel{.title = metric, .series = {}, .reference = {}};
    panel.series.push_back(series_of(all, "", color.lighter(0.2), [&](const auto& c) {
      const auto it = c.accuracy.find(task.name);
      return it == c.accuracy.end() ? Mark{} : Mark{it->second.score("", metric), {}, {}, {}};
    }));
    chart.panels.push_back(std::move(panel));
  }
  return chart;
}

ScatterChart tradeoff_chart(const StudySummary& study) {
  ScatterChart chart{.title = "What each configuration costs and saves",
                     .note =
                         "Below and to the left is better; sizes do not begin at zero. Rings: products emulated on "
                         "this machine. Colours: formats of the weights.",
                     .x_title = "weights, MiB",
                     .y_title = "KL divergence from the baseline, nats per token",
                     .log_y = true,
                     .points = {},
                     .legend = {}};
  for (const ConfigurationSummary& c : study.configurations) {
    const auto kl = c.mean_kl();
    // A logarithmic axis has no zero; and nothing diverges by zero but the baseline.
    if (!kl || *kl <= 0 || c.weight_bytes() == 0) continue;
    auto entry = std::find_if(chart.legend.begin(), chart.legend.end(),
                              [&](const auto& other) { return other.first == c.row.weights; });
    if (entry == chart.legend.end()) {
      entry = chart.legend.insert(entry, {c.row.weights, kPalette[chart.legend.size() % std::size(kPalette)]});
    }
    chart.points.push_back({c.row.name, mebibytes(c.weight_bytes()), *kl, entry->second, c.row.products != "emulated"});
  }
  if (const auto* baseline = study.find(study.baseline); baseline && baseline->weight_bytes() > 0) {
    chart.note += fmt::format(" The baseline's weights: {}.", size_text(baseline->weight_bytes()));
  }
  return chart;
}

// Configurations of one recipe.
RowChart kv_chart(const StudySummary& study, const Configurations& same_recipe) {
  RowChart chart{.title = same_recipe.front()->row.recipe + ": what the format of the KV cache changes",
                 .note = "Against the baseline. " + std::string(kKvFormatsNote),
                 .rows = {},
                 .panels = {}};
  for (const auto* c : same_recipe) chart.rows.push_back(c->row.kv_format);
  Panel kl{.title = "KL, nats per token", .series = {}, .reference = {}, .decimals = 3};
  kl.series.push_back(series_of(same_recipe, "", colors::kPurple, [](const auto& c) {
    if (c.divergence.empty()) return Mark{};
    const Interval& value = c.divergence.begin()->second.kl;
    return Mark{value.value, std::max(0.0, value.low), value.high, {}};
  }));
  Panel agreement{.title = "same top choice, %", .kind = Panel::Kind::kDots, .series = {}, .reference = 100};
  agreement.series.push_back(series_of(same_recipe, "", colors::kBlue, [](const auto& c) {
    if (c.divergence.empty()) return Mark{};
    const Interval& value = c.divergence.begin()->second.agreement;
    return Mark{100 * value.value, 100 * value.low, std::min(100.0, 100 * value.high), {}};
  }));
  chart.panels = {kl, agreement};
  for (const TaskRow* task : study.tasks_of(TaskKind::kAccuracy)) {
    if (chart.panels.size() == 4) break;
    Panel panel{.title = task->title + ", points", .kind = Panel::Kind::kDots, .series = {}, .reference = 0};
    panel.series.push_back(series_of(same_recipe, "", colors::kBlue, [&](const auto& c) {
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
  for (const TaskRow* task : study.tasks_of(TaskKind::kAccuracy)) {
    if (task->headline.size() < 2) continue;
    add(charts, task->name, task->title + " by its own points.", points_chart(study, *task));
  }
  for (std::size_t i = 0; i < study.workloads.size(); ++i) {
    const std::string& workload = study.workloads[i];
    add(charts, i == 0 ? "speed" : "speed_" + workload, "Time to first token by stage, and decoding: " + workload + ".",
        speed_chart(study, workload));
  }
  add(charts, "memory", "Memory by component.", memory_chart(study));
  for (const Configurations& same_recipe : study.kv_ablations()) {
    const std::string& recipe = same_recipe.front()->row.recipe;
    add(charts, recipe + "_kv", recipe + " with each format of the KV cache.", kv_chart(study, same_recipe));
  }
  return charts;
}

}  // namespace halftone
