#include "report/report.h"

#include "base/file.h"
#include "report/sections.h"
#include "report/study_charts.h"
#include "study/recommend.h"

namespace halftone {
namespace {

std::string opening(const StudySummary& study) {
  std::string text = fmt::format("# {}: which configuration to deploy\n\n", study.info.name);
  text += fmt::format(
      "{} configurations of one checkpoint, compared with the baseline `{}` on the same samples. Made by {} "
      "from the study begun {}.\n",
      study.configurations.size(), study.baseline, study.info.program, study.info.created);
  if (const auto note = study.notes.find("purpose"); note != study.notes.end()) text += "\n" + note->second + "\n";
  const auto missing = study.unfinished();
  if (missing.empty()) return text;
  text += "\n**This study is not finished.** Missing:\n\n";
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < std::min(kShown, missing.size()); ++i) text += "- " + missing[i] + "\n";
  if (missing.size() > kShown) text += fmt::format("- and {} more\n", missing.size() - kShown);
  return text;
}

std::string recommendations(const StudySummary& study) {
  std::string text = "## Recommendation\n\n";
  std::string rules;
  for (const Recommendation& r : recommend(study)) {
    text += r.configuration.empty() ? fmt::format("- **{}:** none; {}.\n", r.title, r.reason)
                                    : fmt::format("- **{}: `{}`.** {}.\n", r.title, r.configuration, r.reason);
    rules += fmt::format("- *{}.* {}\n", r.title, r.rule);
  }
  return text + "\nThe rules are fixed and the same for every study:\n\n" + rules +
         "\nThey look at this study alone. Where samples are few, a configuration that is not shown to be worse may "
         "still be so.\n";
}

std::string chart_section(const std::vector<std::pair<std::string, std::string>>& charts) {
  std::string text;
  for (const auto& [name, caption] : charts) text += fmt::format("\n![{}](charts/{}.svg)\n", caption, name);
  return text.empty() ? "" : "## Charts\n" + text;
}

}  // namespace

std::string render_markdown(const StudySummary& study, const std::vector<std::pair<std::string, std::string>>& charts) {
  std::string text = opening(study);
  const std::string sections[] = {
      "## Comparison\n\n" + comparison_table(study) + comparison_legend(study),
      recommendations(study),
      chart_section(charts),
      accuracy_section(study),
      parts_section(study),
      divergence_section(study),
      speed_section(study),
      memory_section(study),
      kv_ablation_section(study),
      conditions_section(study),
  };
  for (const std::string& section : sections) {
    if (!section.empty()) text += "\n" + section;
  }
  return text;
}

std::vector<std::filesystem::path> write_report(const StudySummary& study, const std::filesystem::path& folder) {
  require(!study.configurations.empty(), study.info.name, "the study has no results yet");
  std::filesystem::create_directories(folder / "charts");
  std::vector<std::filesystem::path> files;
  const auto write = [&](const std::filesystem::path& path, std::string_view content) {
    write_file_atomically(path, content);
    files.push_back(path);
  };
  std::vector<std::pair<std::string, std::string>> names;
  for (const NamedChart& chart : draw_study_charts(study)) {
    write(folder / "charts" / (chart.name + ".svg"), chart.files.svg);
    write(folder / "charts" / (chart.name + ".png"), chart.files.png);
    names.emplace_back(chart.name, chart.caption);
  }
  write(folder / "report.md", render_markdown(study, names));
  return files;
}

}  // namespace halftone
