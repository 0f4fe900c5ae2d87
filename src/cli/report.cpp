// halftone report: Markdown and charts from a study's file alone.

#include "report/report.h"

#include <iostream>

#include "cli/command.h"
#include "study/store.h"
#include "study/summary.h"

namespace halftone::cli {
namespace {

struct ReportOptions {
  std::string study, out;
  bool json = false;
};

int run_report(const ReportOptions& options) {
  const auto files = write_report(summarize_study(Store::open(options.study)), options.out);
  if (options.json) {
    Json list = Json::array();
    for (const auto& file : files) list.push_back(file.string());
    print_json({{"files", list}});
  } else {
    for (const auto& file : files) std::cout << file.string() << '\n';
  }
  return kDone;
}

}  // namespace

Command declare_report(CLI::App& parent) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* app =
      parent.add_subcommand("report", "Write a study's tables and charts: report.md, charts as SVG and PNG");
  app->add_option("study", options->study, "Study file (study.db)")->required()->check(CLI::ExistingFile);
  app->add_option("-o,--out", options->out, "Folder to write into")->required();
  app->add_flag("--json", options->json, "The list of written files as JSON");
  return {app, [options](const Environment&) { return run_report(*options); }};
}

}  // namespace halftone::cli
