#include "study/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "study/sqlite.h"
#include "tests/study/example.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using testing::example_configuration;
using testing::example_info;
using testing::example_sample;
using testing::example_task;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

template <typename Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Store, GivesBackEveryRow) {
  const TemporaryFolder folder;
  {
    Store store = Store::create_or_resume(folder / "study.db", example_info());
    store.add_configuration(example_configuration());
    store.add_task(example_task());
    store.add_task(example_task("kl", TaskKind::kKl));
    store.add_sample(example_sample("vqav2/2", 0.3));
    store.add_sample(example_sample("vqav2/1"));
    store.add_likelihood({"bf16", "kl", "vqav2/1", "pic", 3, 1.5, 0.25, 2, 0.1});
    store.add_likelihood({"bf16", "kl", "vqav2/2", "", 3, 1.5, std::nullopt, 3, 0.1});
    store.set_scores("bf16", "vqav2", std::vector<ScoreRow>{{"yes/no", "accuracy", 50.0, 2}, {"", "a", 1.0, 2}});
    store.set_scores("bf16", "vqav2", std::vector<ScoreRow>{{"yes/no", "accuracy", 65.0, 2}});
    store.add_timing({"bf16", "llava", 0, {{"picture_decode", 0.25}}});
    store.set_memory({"bf16", "scales", 10, false});
    store.set_memory({"bf16", "peak", 20, true});
    store.set_memory({"bf16", "scales", 11, false});
    store.add_quantization({"bf16", "work/bf16", {{"layers", Json::array()}}, 1.25});
    store.set_note("why", "because");
  }
  const Store store = Store::open(folder / "study.db");
  EXPECT_EQ(store.info().settings, example_info().settings);
  EXPECT_EQ(store.info().program_hash, "p1");
  ASSERT_EQ(store.configurations().size(), 1u);
  EXPECT_EQ(store.configurations()[0].kv_bytes_per_token, 4096);
  ASSERT_EQ(store.tasks().size(), 2u);
  EXPECT_EQ(store.tasks()[1].kind, TaskKind::kKl);
  const auto samples = store.samples("bf16", "vqav2");
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[1].id, "vqav2/2");
  EXPECT_EQ(samples[1].value, 0.3);
  EXPECT_EQ(samples[0].answer, example_sample("").answer);
  EXPECT_THAT(samples[0].tokens, ElementsAre(1, -2, 3));
  EXPECT_THAT(samples[0].groups, ElementsAre("yes/no"));
  const auto likelihoods = store.likelihoods("bf16", "kl");
  EXPECT_EQ(likelihoods.at(0).kl, 0.25);
  EXPECT_EQ(likelihoods.at(1).kl, std::nullopt);
  ASSERT_EQ(store.scores("bf16", "vqav2").size(), 1u);
  EXPECT_EQ(store.scores("bf16", "vqav2")[0].value, 65.0);
  EXPECT_EQ(store.timings("bf16", "llava").at(0).stages.at("picture_decode"), 0.25);
  const auto memory = store.memory("bf16");
  ASSERT_EQ(memory.size(), 2u);
  EXPECT_EQ(memory[0].component, "scales");
  EXPECT_EQ(memory[0].bytes, 11);
  EXPECT_TRUE(memory[1].measured);
  EXPECT_EQ(store.quantizations().at(0).seconds, 1.25);
  EXPECT_EQ(store.notes().at("why"), "because");
}

TEST(Store, TellsWhatIsFinished) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", example_info());
  store.add_configuration(example_configuration());
  store.add_task(example_task());
  store.add_sample(example_sample("vqav2/1"));
  EXPECT_THAT(store.finished_samples("bf16", "vqav2"), ElementsAre("vqav2/1"));
  EXPECT_TRUE(store.finished_samples("fp8", "vqav2").empty());
  EXPECT_TRUE(store.finished_likelihoods("bf16", "vqav2").empty());
}

TEST(Store, RefusesTheSameSampleTwiceAndRowsWithoutConfiguration) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", example_info());
  store.add_configuration(example_configuration());
  store.add_task(example_task());
  store.add_sample(example_sample("vqav2/1"));
  EXPECT_THAT(error_of([&] { store.add_sample(example_sample("vqav2/1")); }), HasSubstr("UNIQUE"));
  SampleRow orphan = example_sample("vqav2/2");
  orphan.configuration = "fp8";
  EXPECT_THAT(error_of([&] { store.add_sample(orphan); }), HasSubstr("FOREIGN KEY"));
  EXPECT_EQ(store.samples("bf16", "vqav2").size(), 1u);
}

TEST(Store, KeepsConfigurationsAndTasksAsTheyWere) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", example_info());
  store.add_configuration(example_configuration());
  store.add_configuration(example_configuration());
  EXPECT_EQ(store.configurations().size(), 1u);
  ConfigurationRow other = example_configuration();
  other.weights_hash = "w2";
  EXPECT_THAT(error_of([&] { store.add_configuration(other); }),
              HasSubstr("bf16.weights_hash: the file has w-bf16, asked for is w2"));
}

TEST(Store, WritesTogetherOrNotAtAll) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", example_info());
  EXPECT_THROW(store.write_together([&] {
    store.set_note("a", "b");
    fail("test", "stop");
  }),
               Error);
  EXPECT_TRUE(store.notes().empty());
  store.write_together([&] { store.set_note("a", "b"); });
  EXPECT_EQ(store.notes().size(), 1u);
}

TEST(Store, RefusesWhatIsNoStudy) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { Store::open(folder / "none.db"); }), HasSubstr("found no file"));
  write_file_atomically(folder / "text.db",
                        "This is no database, and longer than a header would be. " + std::string(200, '.'));
  EXPECT_THAT(error_of([&] { Store::open(folder / "text.db"); }), HasSubstr("no SQLite database"));
  EXPECT_THAT(error_of([&] { Store::create_or_resume(folder / "text.db", example_info()); }),
              HasSubstr("no SQLite database"));
  Database(folder / "other.db", Database::Access::kCreate).execute("CREATE TABLE t(x)");
  EXPECT_THAT(error_of([&] { Store::create_or_resume(folder / "other.db", example_info()); }),
              HasSubstr("another program"));
}

TEST(Store, RefusesOtherSchemaVersions) {
  const TemporaryFolder folder;
  Store::create_or_resume(folder / "study.db", example_info());
  Database(folder / "study.db", Database::Access::kWrite).execute("PRAGMA user_version = 99");
  EXPECT_THAT(error_of([&] { Store::open(folder / "study.db"); }),
              HasSubstr("expected a study of schema version 3, found version 99"));
  Database(folder / "study.db", Database::Access::kWrite).execute("PRAGMA user_version = 0");
  EXPECT_THAT(error_of([&] { Store::open(folder / "study.db"); }), HasSubstr("older program"));
}

TEST(Store, RefusesASecondWriterButNotAReader) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", example_info());
  EXPECT_THAT(error_of([&] { Store::create_or_resume(folder / "study.db", example_info()); }),
              HasSubstr("another process"));
  EXPECT_EQ(Store::open(folder / "study.db").info().name, "example");
}

TEST(Store, NamesEveryDifferenceOfWhatItWasBegunWith) {
  const TemporaryFolder folder;
  Store::create_or_resume(folder / "study.db", example_info());
  StudyInfo other = example_info();
  other.program_hash = "p2";
  other.settings["weights_hash"] = "w2";
  other.settings["tasks"]["vqav2"]["data_hash"] = "d2";
  other.settings["tasks"].emplace("pope", Json::object());
  const std::string error = error_of([&] { Store::create_or_resume(folder / "study.db", other); });
  EXPECT_THAT(error, HasSubstr("program_hash: the file has p1, asked for is p2"));
  EXPECT_THAT(error, HasSubstr("settings.weights_hash: the file has w1, asked for is w2"));
  EXPECT_THAT(error, HasSubstr("settings.tasks.vqav2.data_hash: the file has d1, asked for is d2"));
  EXPECT_THAT(error, HasSubstr("settings.tasks.pope: the file has nothing, asked for is {}"));
  EXPECT_EQ(Store::create_or_resume(folder / "study.db", example_info()).info().name, "example");
}

}  // namespace
}  // namespace halftone
