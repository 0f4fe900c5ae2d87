// What is asked for wrongly ends with 2, what fails with 1, and both with a line on stderr that says why.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/cli/program.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using testing::Arguments;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Outcome;
using testing::run_program;
using ::testing::StartsWith;
using testing::TemporaryFolder;

const std::string kDemo = HALFTONE_SOURCE_DIR "/demo", kModel = kDemo + "/model";

TEST(Help, EveryCommandHasOne) {
  const Outcome top = run_program({"--help"});
  EXPECT_EQ(top.code, 0);
  EXPECT_THAT(top.err, IsEmpty());
  for (const char* command : {"info", "quantize", "chat", "eval", "bench", "study", "report", "synth"}) {
    EXPECT_THAT(top.out, HasSubstr(std::string("\n  ") + command)) << command;
    const Outcome help = run_program({command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("Usage: halftone " + std::string(command))) << command;
    EXPECT_THAT(help.err, IsEmpty()) << command;
  }
  for (const char* command : {"run", "show"}) {
    const Outcome help = run_program({"study", command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("--json")) << command;
  }
  const Outcome version = run_program({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, StartsWith("halftone "));
}

TEST(Device, WithoutAGpuTheErrorSaysWhatIsMissing) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a GPU";
  const Outcome outcome = run_program({"chat", kModel, "--device", "cuda", "-p", "What is this?"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, StartsWith("error: [cuda] "));
}

struct Case {
  Arguments arguments;
  std::string said;  // on stderr
};

void PrintTo(const Case& c, std::ostream* out) {
  for (const std::string& argument : c.arguments) *out << argument << ' ';
}

class WrongUsage : public ::testing::TestWithParam<Case> {};

TEST_P(WrongUsage, ExitsWithTwo) {
  const Outcome outcome = run_program(GetParam().arguments);
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, AllOf(StartsWith("error: "), HasSubstr(GetParam().said), EndsWith("\n")));
}

INSTANTIATE_TEST_SUITE_P(
    Cli, WrongUsage,
    ::testing::Values(
        Case{{}, "subcommand is required"}, Case{{"nope"}, "expected a command (info, quantize, chat"},
        Case{{"nope", "--json"}, "found 'nope'"},
        Case{{"study", "nope"}, "expected a command (run, show), found 'nope'"}, Case{{"info"}, "model is required"},
        Case{{"info", "/nowhere"}, "/nowhere"}, Case{{"info", kModel, "--threads", "2"}, "--threads"},
        Case{{"bench", kModel, "--synthetic", "448"}, "expected WIDTHxHEIGHT"},
        Case{{"bench", kModel, "--synthetic", "0x448"}, "expected WIDTHxHEIGHT"},
        Case{{"bench", kModel, "--budget", "-1"}, "--budget"}, Case{{"bench", kModel, "--warmup", "-5"}, "--warmup"},
        Case{{"bench", kModel, "--repeats", "0"}, "--repeats"},
        Case{{"bench", kModel, "--min-pixels", "99999999"}, "--min-pixels"},
        Case{{"bench", kModel, "--numerics", "f16"}, "f32"}, Case{{"bench", kModel, "--kv", "int4"}, "fp8_head"},
        Case{{"eval", kModel, "-t", "vqav2"}, "expected NAME=FOLDER"},
        Case{{"eval", kModel, "-t", "docvqa=" + kDemo}, "expected one of vqav2"},
        Case{{"eval", kModel, "-t", "pope=/nowhere"}, "/nowhere"},
        Case{{"eval", kModel, "-t", "pope=" + kDemo, "--limit", "-1"}, "--limit"},
        Case{{"chat", kModel, "--top-p", "0"}, "above 0"}, Case{{"chat", kModel, "--top-p", "x"}, "above 0"},
        Case{{"chat", kModel, "--threads", "0"}, "--threads"},
        Case{{"quantize", kModel, "-r", "nope", "-o", "/nowhere/x"}, "expected a shipped recipe (bf16, int8_wo"},
        Case{{"quantize", kModel, "-r", "fp8+kv:int4", "-o", "/nowhere/x"}, "KV cache: expected one of"},
        Case{{"quantize", kModel, "-r", "int8", "-o", "/nowhere/x"}, "needs calibration data"},
        Case{{"quantize", kModel, "-r", "int8_wo", "--alpha", "0.5", "-o", "/nowhere/x"}, "only SmoothQuant"},
        Case{{"quantize", kModel, "-r", "int8", "-c", "/nowhere", "-o", "/nowhere/x"}, "--calib"},
        Case{{"synth", "--like", "gpt", "-o", "/nowhere/x"}, "qwen2-vl-2b"}));

class Fails : public ::testing::Test {
 protected:
  void expect_failure(const Arguments& arguments, const std::string& said) {
    const Outcome outcome = run_program(arguments);
    EXPECT_EQ(outcome.code, 1) << outcome.err;
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("error: "), HasSubstr(said)));  // warnings may come before it
  }
  std::string file(const char* name, const std::string& content) {
    write_file_atomically(folder_ / name, content);
    return (folder_ / name).string();
  }
  TemporaryFolder folder_;
};

TEST_F(Fails, WithOneForFilesThatAreNotWhatTheyShouldBe) {
  const std::string list = file("list.txt", "bread\n");
  expect_failure({"info", std::filesystem::path(list).parent_path().string()}, "config.json");
  expect_failure({"study", "show", list}, "list.txt");
  expect_failure({"report", list, "-o", (folder_ / "report").string()}, "list.txt");
  expect_failure({"chat", kModel, "-p", "What?", "-i", list}, "list.txt");
  expect_failure({"eval", kModel, "-t", "pope=" + kDemo + "/suite/pope", "--limit", "1", "--samples", list},
                 "expected a file of answers");
  EXPECT_EQ(read_file(list), "bread\n");
}

TEST_F(Fails, WithOneForRecipesAndStudiesThatSayWhatTheyMayNot) {
  const std::string out = (folder_ / "out").string();
  const std::string recipe = file("r.yaml", "layout: compressed-tensors\nrules: [{match: '*', weights: int9}]\n");
  expect_failure({"quantize", kModel, "-r", recipe, "-o", out},
                 "r.yaml] field 'rules[0].weights': expected one of none, int8_channel");
  const std::string other =
      file("s.yaml", "layout: compressed-tensors\nrules: [{match: 'x*', weights: int8_channel}]\n");
  expect_failure({"quantize", kModel, "-r", other, "-o", out},
                 "s.yaml] field 'rules[0].match': 'x*' matches no module");
  // in a study it is the file that is wrong
  const std::string plan = file("plan.yaml", "name: x\nmodel: " + kModel + "\nconfigurations: [bf16, nope]\n");
  expect_failure({"study", "run", plan, "-o", out}, "plan.yaml] field 'configurations[1]'");
}

TEST_F(Fails, WithOneForAFullDisk) {
  const std::string command = std::string(HALFTONE_PROGRAM) + " info " + kModel + " > /dev/full 2> /dev/null";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

}  // namespace
}  // namespace halftone
