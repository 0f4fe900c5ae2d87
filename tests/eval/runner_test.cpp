#include "eval/runner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "fake_session.h"

namespace halftone {
namespace {

class Runner : public testing::Test {
 protected:
  Runner() {
    for (int i = 0; i < 40; ++i)
      data_.samples.push_back({"task/" + std::to_string(i), {"p" + std::to_string(i % 7)}, "", {}});
    todo_ = samples_to_do(data_, [](const std::string&) { return false; });
  }
  static std::unique_ptr<Session> session() {
    return std::make_unique<FakeSession>([](std::size_t) { return std::vector<float>(); });
  }
  static std::string id_of(Session&, const Sample& sample) { return sample.id; }

  TaskData data_{"task", {}, "", {}};
  std::vector<const Sample*> todo_;
};

TEST_F(Runner, MeasuresEverySampleOnce) {
  for (const int workers : {1, 2, 5}) {
    std::multiset<std::string> seen;
    std::int64_t told = 0;
    RunOptions options;
    options.workers = workers;
    options.progress = [&](std::string_view, std::int64_t done, std::int64_t total) {
      EXPECT_EQ(done, ++told);
      EXPECT_EQ(total, 40);
    };
    EXPECT_TRUE(run_samples<std::string>(
        session, todo_, id_of, [&](const std::string& id) { seen.insert(id); }, options));
    EXPECT_EQ(seen.size(), 40u);
    EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 40u);
    EXPECT_EQ(told, 40);
  }
}

TEST_F(Runner, KeepsQuestionsOnOnePictureTogether) {
  std::vector<std::string> pictures;
  const auto measure = [](Session&, const Sample& sample) { return sample.pictures[0].string(); };
  RunOptions options;
  options.workers = 1;
  run_samples<std::string>(
      session, todo_, measure, [&](const std::string& picture) { pictures.push_back(picture); }, options);
  EXPECT_TRUE(std::is_sorted(pictures.begin(), pictures.end()));
}

TEST_F(Runner, StopsBetweenSamples) {
  std::stop_source source;
  int delivered = 0;
  RunOptions options;
  options.workers = 1;
  options.stop = source.get_token();
  EXPECT_FALSE(run_samples<std::string>(
      session, todo_, id_of,
      [&](const std::string&) {
        if (++delivered == 5) source.request_stop();
      },
      options));
  EXPECT_EQ(delivered, 5);
}

TEST_F(Runner, ThrowsWhatAWorkerThrew) {
  int delivered = 0;
  RunOptions options;
  options.workers = 2;
  const auto measure = [](Session&, const Sample& sample) -> std::string {
    require(sample.id != "task/20", sample.id, "broken picture");
    return sample.id;
  };
  EXPECT_THROW(run_samples<std::string>(
                   session, todo_, measure, [&](const std::string&) { ++delivered; }, options),
               Error);
  EXPECT_LT(delivered, 40);
  const auto no_session = []() -> std::unique_ptr<Session> { fail("engine", "no memory"); };
  EXPECT_THROW(run_samples<std::string>(
                   no_session, todo_, id_of, [](const std::string&) {}, options),
               Error);
}

TEST_F(Runner, LeavesOutWhatIsDone) {
  const auto left = samples_to_do(data_, [](const std::string& id) { return id != "task/3"; });
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0]->id, "task/3");
  EXPECT_TRUE(run_samples<std::string>(session, {}, id_of, [](const std::string&) { FAIL(); }, {}));
}

}  // namespace
}  // namespace halftone
