#pragma once
// One run of a study, configuration by configuration. Each step asks the store what is missing and does only that.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/quantize_folder.h"
#include "driver/run_study.h"
#include "driver/study_inputs.h"
#include "eval/runner.h"
#include "study/store.h"

namespace halftone {

class StudyRunner {
 public:
  StudyRunner(const StudyPlan& plan, const RunStudyOptions& options, const StudyInputs& inputs, Store& store);
  // False when stopped before the end.
  bool run();

 private:
  struct Stopped {};  // thrown to leave a step early

  void run_configuration(const std::string& configuration);
  bool is_baseline(const std::string& configuration) const { return configuration == plan_.baseline; }
  bool on_gpu() const { return plan_.device == "cuda"; }

  // quantize_step.cpp
  // A folder that the engine can load; quantized now unless it is there.
  std::filesystem::path checkpoint_of(const std::string& configuration);
  void quantize_configuration(const std::string& configuration, const std::filesystem::path& folder);
  void record_quantization(const std::string& configuration, const std::filesystem::path& folder);
  void record_configuration(const std::string& configuration, const EngineInfo& info);
  // Throws away what another study, or another version of this one, left in the work folder.
  void prepare_work_folder();

  // measure_steps.cpp
  void answer_task(const std::string& configuration, const TaskInput& input,
                   const std::shared_ptr<const Engine>& engine);
  void score_task(const std::string& configuration, const TaskInput& input);
  void measure_divergence(const std::string& configuration, const std::shared_ptr<const Engine>& engine);
  void record_baseline(const std::shared_ptr<const Engine>& engine);
  void measure_text(const std::string& configuration, const PerplexityInput& input,
                    const std::shared_ptr<const Engine>& engine);
  void measure_speed(const std::string& configuration, const std::filesystem::path& folder);
  // The samples of the KL task: answers of the baseline, which must be complete by then.
  const TaskData& kl_samples();
  std::filesystem::path distributions() const { return work_ / "baseline.distributions"; }
  EngineOptions engine_options() const;
  template <typename Result>
  void run_all(const std::vector<const Sample*>& samples, const std::shared_ptr<const Engine>& engine,
               std::int64_t cost, const std::function<Result(Session&, const Sample&)>& measure,
               const std::function<void(const Result&)>& sink);

  // study_progress.cpp: progress over the whole study, in units of about a hundredth of an answer.
  std::int64_t missing_cost(const std::string& configuration) const;
  std::int64_t missing_speed_cost(const std::string& configuration) const;
  // Of the note on a workload that its time budget ended early.
  static std::string budget_note(const std::string& configuration, const std::string& workload);
  bool speed_is_done(const std::string& configuration, const Workload& workload) const;
  void advance(std::int64_t cost);
  void check_stop() const;

  const StudyPlan& plan_;
  const RunStudyOptions& options_;
  const StudyInputs& inputs_;
  Store& store_;
  std::filesystem::path work_;
  std::string identity_;  // SHA-256 of what makes the study
  std::shared_ptr<PictureCache> pictures_;
  std::optional<Calibration> calibration_;
  std::optional<TaskData> kl_samples_;
  std::int64_t done_ = 0, total_ = 0;
};

// Expected times, by which progress is shared out: of an answer, a forced answer, a text, a repeat, a quantization.
namespace cost {
inline constexpr std::int64_t kAnswer = 100, kForced = 100, kText = 80, kRepeat = 300, kQuantize = 20000;
}  // namespace cost

}  // namespace halftone
