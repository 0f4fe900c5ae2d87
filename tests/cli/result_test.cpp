// Results on stdout, as text or as JSON; everything else on stderr.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

using testing::Arguments;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Outcome;
using testing::Program;
using testing::run_program;
using testing::TemporaryFolder;

const std::string kDemo = HALFTONE_SOURCE_DIR "/demo", kModel = kDemo + "/model";

// What the program prints with --json added.
Json json_of(Arguments arguments) {
  arguments.emplace_back("--json");
  const Outcome outcome = run_program(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return parse_json(outcome.out, "stdout");
}

std::vector<std::string> keys_of(const Json& json) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

const char* kConditions[] = {"checkpoint", "weights",         "numerics",   "kv",
                             "products",   "instruction_set", "min_pixels", "max_pixels"};

class Results : public ::testing::Test {
 protected:
  std::string path(const char* name) const { return (folder_ / name).string(); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / ""))
      names.push_back(entry.path().filename());
    return names;
  }
  TemporaryFolder folder_;
};

TEST_F(Results, InfoTellsPartsRecipesAndFormats) {
  const Json info = json_of({"info", kModel});
  EXPECT_THAT(keys_of(info["parts"]), Contains("vision"));
  EXPECT_THAT(keys_of(info["recipes"]), Contains("nvfp4"));
  EXPECT_THAT(keys_of(info["formats"]), Contains("int4_group64"));
  const Outcome text = run_program({"info", kModel});
  EXPECT_THAT(text.out, HasSubstr("int4_group32"));
  EXPECT_THAT(text.err, IsEmpty());
}

TEST_F(Results, SynthAndInfo) {
  EXPECT_EQ(json_of({"synth", "--like", "qwen2-vl-tiny", "-o", path("tiny"), "--threads", "1"})["folder"],
            path("tiny"));
  EXPECT_EQ(json_of({"info", path("tiny")})["architecture"], "qwen2_vl");
  const Outcome again = run_program({"synth", "--like", "qwen2-vl-tiny", "-o", path("tiny")});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.err, HasSubstr("exists already"));
}

TEST_F(Results, QuantizeWritesAFolderThatChatLoads) {
  const std::string stale = path("int8.partial-99999991");
  std::filesystem::create_directories(stale);
  const Json report = json_of({"quantize", kModel, "-r", "int8_wo", "-o", path("int8"), "--threads", "2"});
  EXPECT_EQ(report["configuration"], "int8_wo");
  EXPECT_FALSE(report["layers"].empty());
  EXPECT_FALSE(std::filesystem::exists(stale));
  const Arguments ask = {"chat", path("int8"), "-p", "Is there a dog?", "-n", "3"};
  const Json answer = json_of(ask);
  EXPECT_GT(answer["seconds"]["ttft"], 0);
  EXPECT_GT(answer["seconds"]["prefill"], 0);
  EXPECT_EQ(run_program(ask).out, answer["text"].get<std::string>() + "\n");
}

TEST_F(Results, ChatReadsLinesWithoutAPromptWhereNoneIsSeen) {
  const Outcome talk = run_program({"chat", kModel, "-n", "2"}, "Hello\n\nAnd now");
  EXPECT_EQ(talk.code, 0);
  EXPECT_THAT(talk.err, IsEmpty());
  EXPECT_EQ(std::count(talk.out.begin(), talk.out.end(), '\n'), 2);  // two turns, the last one without an end of line
}

TEST_F(Results, EvalAndBenchStateTheirConditions) {
  const std::string data = "pope=" + kDemo + "/suite/pope";
  const Json eval = json_of({"eval", kModel, "-t", data, "--limit", "2"});
  const Json bench = json_of({"bench", kModel, "--synthetic", "56x56", "--repeats", "2", "--warmup", "0", "-n", "2"});
  for (const char* key : kConditions) EXPECT_EQ(eval["conditions"][key], bench["conditions"][key]) << key;
  EXPECT_EQ(eval["conditions"]["prompts"], "suite");
  EXPECT_TRUE(eval["finished"].get<bool>());
  EXPECT_GE(eval["tasks"]["pope"]["samples"], 2);  // all questions on as many pictures as that takes
  EXPECT_TRUE(eval["tasks"]["pope"]["notes"].is_array());
  EXPECT_EQ(bench["workloads"].begin().value()["ttft"]["count"], 2);
  EXPECT_GT(bench["memory"]["peak"], 0);
}

TEST_F(Results, BenchSaysWhatItsBudgetLeft) {
  const Outcome bench = run_program({"bench", kModel, "--synthetic", "56x56", "--repeats", "1000000", "--warmup", "0",
                                     "-n", "2", "--budget", "0.0001"});
  EXPECT_EQ(bench.code, 0);
  EXPECT_THAT(bench.out, HasSubstr("1 of 1000000 repeats"));
  EXPECT_THAT(bench.out, HasSubstr("too few repeats for an interval"));
}

TEST_F(Results, AStudyWithARecipeBesideItsFile) {
  // two files of one name, found from the study's folder wherever the program runs
  const std::string recipe = "layout: compressed-tensors\nrules: [{match: '*.mlp.*', weights: int8_channel}]\n";
  for (const char* name : {"a", "b"}) {
    std::filesystem::create_directories(folder_ / name);
    write_file_atomically(folder_ / name / "mine.yaml", recipe + "# " + name + "\n");
  }
  write_file_atomically(folder_ / "plan.yaml", "name: small\nmodel: " + kModel +
                                                   "\nconfigurations: [bf16, a/mine.yaml, b/mine.yaml]\n"
                                                   "tasks: {pope: {data: " +
                                                   kDemo + "/suite/pope, limit: 1}}\n");
  const Json run = json_of({"study", "run", path("plan.yaml"), "-o", path("out")});
  const std::string file = run["study"];
  const Json summary = json_of({"study", "show", file});
  EXPECT_EQ(summary["configurations"].size(), 3u);
  EXPECT_THAT(run_program({"study", "show", file}).out, HasSubstr("b/mine.yaml"));
  std::size_t folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(file + ".work")) folders += entry.is_directory();
  EXPECT_EQ(folders, 2u);
  EXPECT_FALSE(json_of({"report", file, "-o", path("report")})["files"].empty());
}

TEST_F(Results, InterruptedQuantizationLeavesOnlyWhatTheNextOneGoesOnFrom) {
  Program program({"quantize", kModel, "-r", "int4_awq", "-c", kDemo + "/suite/captions", "--samples", "0", "-o",
                   path("awq"), "--threads", "1"});
  program.wait_for_signal_watch();
  program.signal(SIGINT);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
  EXPECT_THAT(files(), Each("awq.work"));
}

TEST_F(Results, ChatEndsAtItsPrompt) {
  Program program({"chat", kModel, "-n", "1"});
  program.write("Hello\n");
  program.wait_for_output(1);
  program.signal(SIGINT);
  EXPECT_EQ(program.wait(false).code, 130);
}

TEST_F(Results, InterruptedEvaluationGoesOn) {
  const Arguments ask = {"eval", kModel, "-t", "pope=" + kDemo + "/suite/pope", "--samples", path("answers.jsonl")};
  Program program(ask);
  program.wait_for_signal_watch();
  program.signal(SIGTERM);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 130) << outcome.err;
}

}  // namespace
}  // namespace halftone
