#pragma once
// Runs a study: quantizes every configuration, asks it every task, measures it, and writes each result down as it
// comes.

#include <filesystem>
#include <stop_token>

#include "base/progress.h"
#include "driver/study_plan.h"

namespace halftone {

struct RunStudyOptions {
  std::filesystem::path file;  // the study; made, or gone on with
  std::filesystem::path work;  // quantized checkpoints and the baseline's predictions; empty: beside the file, ".work"
  int threads = 0;             // 0: all cores
  std::stop_token stop;        // what is in flight is finished and kept
  Progress progress;           // over the whole study, in parts of equal expected time
};

enum class StudyOutcome { kFinished, kInterrupted };

// A study that was interrupted, killed or ended by an error goes on where it was. All that is not a measured time or
// size is then as if it had not been interrupted. Throws Error as Store::create_or_resume() does, and for whatever a
// step throws.
StudyOutcome run_study(const StudyPlan& plan, const RunStudyOptions& options);

}  // namespace halftone
