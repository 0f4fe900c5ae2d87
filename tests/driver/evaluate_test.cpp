// The demo model on a few questions: the file of answers, and what may be in it.

#include "driver/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo";

class Evaluate : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { engine_ = new std::shared_ptr<const Engine>(Engine::load(kDemo / "model")); }
  static void TearDownTestSuite() { delete engine_; }

  // Of the POPE questions on as many pictures as two questions take. `asked` is how many were not in the file.
  EvaluateResult run(std::uint64_t seed = 3) {
    asked_ = 0;
    EvaluateOptions options;
    options.tasks = {{"pope", kDemo / "suite" / "pope"}};
    options.limit = 2;
    options.seed = seed;
    options.threads = 1;
    options.samples = file_;
    options.progress = [&](std::string_view, std::int64_t, std::int64_t) { ++asked_; };
    return evaluate(*engine_, options);
  }

  // The message with which a run refuses the file, which must be as it was.
  std::string refusal(const std::string& content) {
    write_file_atomically(file_, content);
    try {
      run();
    } catch (const Error& error) {
      EXPECT_EQ(read_file(file_), content);
      return error.what();
    }
    return "";
  }

  static std::shared_ptr<const Engine>* engine_;
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "answers.jsonl";
  int asked_ = 0;
};
std::shared_ptr<const Engine>* Evaluate::engine_ = nullptr;

TEST_F(Evaluate, ASecondRunAsksNothingAndSaysTheSame) {
  const EvaluateResult first = run();
  const int all = asked_;
  EXPECT_GE(all, 2);
  const std::string content = read_file(file_);
  const EvaluateResult second = run();
  EXPECT_EQ(asked_, 0);
  EXPECT_EQ(read_file(file_), content);
  ASSERT_EQ(first.tasks.size(), 1u);
  ASSERT_EQ(second.tasks.size(), 1u);
  EXPECT_TRUE(second.finished);
  EXPECT_EQ(second.tasks[0].samples, all);
  ASSERT_EQ(first.tasks[0].figures.size(), second.tasks[0].figures.size());
  for (std::size_t i = 0; i < first.tasks[0].figures.size(); ++i) {
    EXPECT_EQ(to_json(first.tasks[0].figures[i]), to_json(second.tasks[0].figures[i]));
  }
}

TEST_F(Evaluate, GoesOnWhereACrashCutTheFileOff) {
  run();
  const int all = asked_;
  const std::string content = read_file(file_);
  const std::size_t header = content.find('\n') + 1, second = content.find('\n', header) + 1;
  const struct {
    std::size_t size;
    int asked;
  } kCuts[] = {{0, all},          {header / 2, all}, {header - 1, all}, {header, all},
               {header + 5, all}, {second - 1, all}, {second, all - 1}};
  for (const auto& cut : kCuts) {
    write_file_atomically(file_, content.substr(0, cut.size));
    EXPECT_EQ(run().tasks.at(0).samples, all) << cut.size;
    EXPECT_EQ(asked_, cut.asked) << cut.size;
    EXPECT_TRUE(read_file(file_).starts_with(content.substr(0, header))) << cut.size;
  }
}

TEST_F(Evaluate, LeavesAForeignFileAlone) {
  EXPECT_THAT(refusal("a shopping list"), HasSubstr("answers.jsonl] expected a file of answers"));
  EXPECT_THAT(refusal("a shopping list\nbread\n"), HasSubstr("expected a file of answers"));
  EXPECT_THAT(refusal("{\"conditions\": 1, \"b\": 2}"), HasSubstr("expected a file of answers"));
  EXPECT_THAT(refusal("{\"id\": \"pope/1\"}\n"), HasSubstr("expected a file of answers"));
  EXPECT_THAT(refusal("\n"), HasSubstr("expected a file of answers"));
}

TEST_F(Evaluate, RefusesAnswersOfOtherConditionsAndDamagedLines) {
  run();
  const int line = asked_ + 2;  // after the conditions and the answers
  const std::string content = read_file(file_);
  std::string other = content;
  other.replace(other.find("\"f32\""), 5, "\"f64\"");
  EXPECT_THAT(refusal(other), HasSubstr("expected the conditions"));
  EXPECT_THAT(refusal(content + "{\"id\": \n"), HasSubstr(fmt::format("answers.jsonl, line {}] expected JSON", line)));
  EXPECT_THAT(refusal(content + "{\"id\": \"pope/1\"}\n"),
              HasSubstr(fmt::format("line {}] field 'value': missing", line)));
}

TEST_F(Evaluate, StopsAtARequestAndKeepsWhatIsFinished) {
  std::stop_source stop;
  EvaluateOptions options;
  options.tasks = {{"pope", kDemo / "suite" / "pope"}, {"mme", kDemo / "suite" / "mme"}};
  options.limit = 4;
  options.threads = 1;
  options.samples = file_;
  options.stop = stop.get_token();
  options.progress = [&](std::string_view, std::int64_t, std::int64_t) { stop.request_stop(); };
  const EvaluateResult stopped = evaluate(*engine_, options);
  EXPECT_FALSE(stopped.finished);
  ASSERT_EQ(stopped.tasks.size(), 1u);
  EXPECT_EQ(stopped.tasks[0].samples, 1);
  options.stop = {};
  options.progress = {};
  const EvaluateResult whole = evaluate(*engine_, options);
  EXPECT_TRUE(whole.finished);
  ASSERT_EQ(whole.tasks.size(), 2u);
  EXPECT_GE(whole.tasks[0].samples, 4);
}

}  // namespace
}  // namespace halftone
