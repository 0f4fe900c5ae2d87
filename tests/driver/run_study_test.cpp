// A small study of the demo model, whole, interrupted and killed.

#include "driver/run_study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "study/sqlite.h"
#include "study/summary.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

using ::testing::IsEmpty;
using testing::TemporaryFolder;

StudyPlan small_plan() {
  return parse_study_plan(R"(
name: small
model: model
seed: 5
configurations: [bf16, int8_wo, "fp8+kv:fp8_head"]
tasks:
  vqav2: {data: suite/vqav2, limit: 4}
  mme: {data: suite/mme, limit: 2}
kl: {samples: 3}
perplexity: {data: suite/text, window: 32, limit: 2}
calibration: {data: suite/captions, samples: 2, tokens: 128}
bench:
  repeats: 2
  warmup: 0
  output_tokens: 3
  workloads: {llava_bench: {data: suite/llava-bench, prompts: 1}}
)",
                          std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo", "small");
}

RunStudyOptions options_for(const std::filesystem::path& file) {
  RunStudyOptions options;
  options.file = file;
  options.threads = 2;
  return options;
}

// Every row of every table without what is measured.
std::vector<std::string> contents(const std::filesystem::path& file) {
  const char* queries[] = {
      "SELECT name, program_hash, settings, machine FROM study",
      "SELECT name, position, weights_hash, numerics, products, kv_bytes_per_token, calibrated FROM configurations",
      "SELECT * FROM tasks",
      "SELECT configuration, task, id, picture, answer, tokens, value, groups, score FROM samples",
      "SELECT configuration, task, id, picture, tokens, nll, kl, top1_agree FROM likelihoods",
      "SELECT * FROM scores",
      "SELECT configuration, workload, repeat FROM timings",
      "SELECT configuration, component, position, bytes FROM memory WHERE NOT measured",
      "SELECT configuration, report FROM quantizations",
      "SELECT * FROM notes",
  };
  constexpr int kColumns[] = {4, 7, 14, 9, 8, 7, 3, 4, 2, 2};
  std::vector<std::string> rows;
  const Database database(file, Database::Access::kRead);
  for (std::size_t i = 0; i < std::size(queries); ++i) {
    for (Statement row = database.prepare(queries[i]); row.step();) {
      std::string text = queries[i];
      for (int column = 0; column < kColumns[i]; ++column) text += "|" + row.text(column);
      rows.push_back(std::move(text));
    }
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

class RunStudy : public ::testing::Test {
 protected:
  // The uninterrupted study, run once.
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    std::int64_t last = 0;
    RunStudyOptions options = options_for(whole());
    options.progress = [&](std::string_view what, std::int64_t done, std::int64_t total) {
      if (what != "small") return;
      EXPECT_GE(done, last);
      EXPECT_LE(done, total);
      last = done;
      steps_ += 1;
    };
    ASSERT_EQ(run_study(small_plan(), options), StudyOutcome::kFinished);
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::filesystem::path whole() { return *folder_ / "whole.db"; }

  static TemporaryFolder* folder_;
  static int steps_;
};
TemporaryFolder* RunStudy::folder_ = nullptr;
int RunStudy::steps_ = 0;

TEST_F(RunStudy, FillsEveryTable) {
  const StudySummary study = summarize_study(Store::open(whole()));
  EXPECT_THAT(study.unfinished(), IsEmpty());
  ASSERT_EQ(study.configurations.size(), 3u);
  for (const ConfigurationSummary& c : study.configurations) {
    EXPECT_EQ(c.accuracy.size(), 2u) << c.row.name;
    EXPECT_EQ(c.perplexity.size(), 2u) << c.row.name;
    EXPECT_EQ(c.divergence.size(), c.row.name == "bf16" ? 0u : 1u) << c.row.name;
    EXPECT_EQ(c.speed.at("llava_bench").repeats, 2) << c.row.name;
    EXPECT_GT(c.weight_bytes(), 0) << c.row.name;
    EXPECT_EQ(c.quantization.has_value(), c.row.name != "bf16");
    EXPECT_TRUE(c.accuracy.at("mme").score("", "perception").has_value());
  }
  EXPECT_LT(study.find("int8_wo")->weight_bytes(), study.find("bf16")->weight_bytes());
  EXPECT_GT(*study.find("int8_wo")->mean_kl(), 0);
}

TEST_F(RunStudy, DoesNothingTwice) {
  const auto before = contents(whole());
  RunStudyOptions options = options_for(whole());
  EXPECT_EQ(run_study(small_plan(), options), StudyOutcome::kFinished);
  EXPECT_EQ(contents(whole()), before);
}

TEST_F(RunStudy, GoesOnAfterAStop) {
  const std::filesystem::path file = *folder_ / "stopped.db";
  int runs = 0;
  for (StudyOutcome outcome = StudyOutcome::kInterrupted; outcome == StudyOutcome::kInterrupted; ++runs) {
    ASSERT_LT(runs, 20);
    std::stop_source stop;
    RunStudyOptions options = options_for(file);
    options.stop = stop.get_token();
    int calls = 0;
    options.progress = [&](std::string_view what, std::int64_t, std::int64_t) {
      if (what == "small" && ++calls == 25) stop.request_stop();
    };
    outcome = run_study(small_plan(), options);
  }
  EXPECT_GT(runs, 1);
  EXPECT_EQ(contents(file), contents(whole()));
}

// The process that is killed: this program again, told by its environment which file to work on and when to die.
constexpr const char *kFileVariable = "HALFTONE_TEST_FILE", *kStepsVariable = "HALFTONE_TEST_STEPS";

TEST(RunStudyChild, DISABLED_DiesAfterSteps) {
  ASSERT_TRUE(std::getenv(kFileVariable)) << "only as the child of RunStudy.GoesOnAfterAKill";
  RunStudyOptions options = options_for(std::getenv(kFileVariable));
  const int steps = std::stoi(std::getenv(kStepsVariable));
  int calls = 0;
  options.progress = [&](std::string_view what, std::int64_t, std::int64_t) {
    if (what == "small" && ++calls == steps) kill(getpid(), SIGKILL);
  };
  ASSERT_EQ(run_study(small_plan(), options), StudyOutcome::kFinished);
}

// True when the child was killed, false when it finished the study.
bool run_child(const std::filesystem::path& file, int steps) {
  const std::string command = fmt::format(
      "{}='{}' {}={} exec /proc/{}/exe --gtest_also_run_disabled_tests --gtest_filter=RunStudyChild.* >/dev/null",
      kFileVariable, file.string(), kStepsVariable, steps, getpid());
  const int status = std::system(command.c_str());
  if (WIFSIGNALED(status)) return true;
  EXPECT_EQ(status, 0);
  return false;
}

TEST_F(RunStudy, GoesOnAfterAKill) {
  const std::filesystem::path file = *folder_ / "killed.db";
  int kills = 0;
  for (int steps = 5; run_child(file, steps); steps += 14) ++kills;
  EXPECT_GT(kills, 1);
  EXPECT_EQ(contents(file), contents(whole()));
}

TEST_F(RunStudy, RefusesAnotherStudyInTheSameFile) {
  StudyPlan other = small_plan();
  other.tasks[0].limit = 2;
  other.seed = 6;
  try {
    run_study(other, options_for(whole()));
    FAIL() << "went on with another study";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("settings.seed: the file has 5, asked for is 6"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("settings.tasks.vqav2.data_hash"));
  }
}

}  // namespace
}  // namespace halftone
