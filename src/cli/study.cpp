// halftone study: every configuration of a YAML file, measured, in one resumable file.

#include <iostream>

#include "cli/command.h"
#include "driver/run_study.h"
#include "ops/numerics_name.h"
#include "report/report.h"
#include "study/store.h"
#include "study/summary.h"

namespace halftone::cli {
namespace {

struct StudyOptions {
  std::string plan, folder, file;
  StudyOverrides overrides;
  int threads = 0;
  bool json = false;
};

std::filesystem::path study_file(const std::filesystem::path& folder) { return folder / "study.db"; }

int run_study_command(const StudyOptions& options, const Environment& environment) {
  std::filesystem::create_directories(options.folder);
  RunStudyOptions run;
  run.file = study_file(options.folder);
  run.threads = options.threads;
  run.stop = environment.stop;
  run.progress = environment.progress;
  if (run_study(read_study_plan(options.plan, options.overrides), run) == StudyOutcome::kInterrupted) {
    std::cerr << "interrupted; run the same command again to go on\n";
    return kInterrupted;
  }
  if (options.json) {
    print_json({{"study", run.file.string()}});
  } else {
    std::cout << run.file.string() << std::endl;
  }
  return kDone;
}

int show_study(const StudyOptions& options) {
  const StudySummary study = summarize_study(Store::open(options.file));
  if (options.json) {
    print_json(to_json(study));
  } else {
    std::cout << comparison_table(study);
  }
  return kDone;
}

}  // namespace

Command declare_study(CLI::App& parent) {
  auto options = std::make_shared<StudyOptions>();
  CLI::App* app = parent.add_subcommand("study", "Compare configurations: run a study, or show one");
  app->require_subcommand(1);
  CLI::App* run = app->add_subcommand("run", "Quantize, ask and measure every configuration of a YAML file; resumes");
  run->add_option("plan", options->plan, "Study file in YAML")->required()->check(CLI::ExistingFile);
  run->add_option("-o,--out", options->folder, "Folder for study.db and the quantized checkpoints")->required();
  run->add_option("--device", options->overrides.device, "Where the models run, instead of the file's `device`")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  run->add_option("--numerics", options->overrides.numerics, "Instead of the file's `numerics`")
      ->check(CLI::IsMember(std::vector<std::string>(kNumericsNames.begin(), kNumericsNames.end())));
  run->add_option("--configurations", options->overrides.configurations,
                  "NAME,NAME,...: instead of the file's; the first is the baseline")
      ->delimiter(',');
  run->add_option("--threads", options->threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  run->add_flag("--json", options->json, "The study file's path as JSON");
  CLI::App* show = app->add_subcommand("show", "The comparison table");
  show->add_option("study", options->file, "Study file (study.db)")->required()->check(CLI::ExistingFile);
  show->add_flag("--json", options->json, "The summary as JSON");
  return {app, [options, run](const Environment& environment) {
            return run->parsed() ? run_study_command(*options, environment) : show_study(*options);
          }};
}

}  // namespace halftone::cli
