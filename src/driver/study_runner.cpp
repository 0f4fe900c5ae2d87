#include "driver/study_runner.h"

#include <algorithm>

#include "base/hash.h"
#include "base/log.h"

namespace halftone {
namespace {

std::string identity_of(const StudyInfo& info) {
  return sha256_hex(
      Json{{"program", info.program_hash}, {"settings", info.settings}, {"machine", info.machine}}.dump());
}

}  // namespace

StudyRunner::StudyRunner(const StudyPlan& plan, const RunStudyOptions& options, const StudyInputs& inputs, Store& store)
    : plan_(plan),
      options_(options),
      inputs_(inputs),
      store_(store),
      work_(options.work.empty() ? std::filesystem::path(options.file.string() + ".work") : options.work),
      identity_(identity_of(inputs.info)),
      pictures_(make_picture_cache()) {}

bool StudyRunner::run() {
  prepare_work_folder();
  if (!plan_.note.empty()) store_.set_note("purpose", plan_.note);
  for (const TaskInput& task : inputs_.tasks) store_.add_task(task.row);
  if (inputs_.kl) store_.add_task(*inputs_.kl);
  for (const PerplexityInput& text : inputs_.perplexity) store_.add_task(text.row);
  // What an earlier run did counts as done: the time left is that of this run.
  std::int64_t missing = 0;
  for (const std::string& configuration : plan_.configurations) missing += missing_cost(configuration);
  total_ = missing;
  advance(0);
  try {
    for (const std::string& configuration : plan_.configurations) run_configuration(configuration);
  } catch (const Stopped&) {
    return false;
  }
  advance(total_);
  return true;
}

void StudyRunner::run_configuration(const std::string& configuration) {
  check_stop();
  const std::int64_t missing = missing_cost(configuration), before = done_;
  // The baseline's predictions may have to be recorded again although all its rows are there.
  if (missing > 0 || (is_baseline(configuration) && inputs_.kl)) {
    const std::filesystem::path folder = checkpoint_of(configuration);
    {
      const auto engine = Engine::load(folder, engine_options());
      record_configuration(configuration, engine->info());
      for (const TaskInput& task : inputs_.tasks) answer_task(configuration, task, engine);
      if (inputs_.kl) measure_divergence(configuration, engine);
      for (const PerplexityInput& text : inputs_.perplexity) measure_text(configuration, text, engine);
    }
    if (!inputs_.workloads.empty()) measure_speed(configuration, folder);
  }
  for (const TaskInput& task : inputs_.tasks) score_task(configuration, task);
  // Steps that went another way than expected (a time budget) are made up for here.
  advance(std::max<std::int64_t>(0, before + missing - done_));
}

StudyOutcome run_study(const StudyPlan& plan, const RunStudyOptions& options) {
  const StudyInputs inputs = read_study_inputs(plan, options.progress);
  Store store = Store::create_or_resume(options.file, inputs.info);
  return StudyRunner(plan, options, inputs, store).run() ? StudyOutcome::kFinished : StudyOutcome::kInterrupted;
}

}  // namespace halftone
