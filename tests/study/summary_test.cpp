#include "study/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "study/recommend.h"
#include "tests/study/synthetic_study.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::SyntheticStudy;
using testing::TemporaryFolder;

StudySummary synthetic_summary() {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", SyntheticStudy::info());
  SyntheticStudy(store).fill();
  return summarize_study(store);
}

TEST(Summary, ComparesEachSampleWithTheBaselines) {
  const StudySummary study = synthetic_summary();
  ASSERT_EQ(study.configurations.size(), 13u);
  EXPECT_THAT(study.unfinished(), IsEmpty());
  const Accuracy& base = study.find("bf16")->accuracy.at("vqav2");
  EXPECT_FALSE(base.difference.has_value());
  EXPECT_EQ(base.samples, 500);
  EXPECT_EQ(base.pictures, 250);
  const Accuracy& int4 = study.find("int4_wo")->accuracy.at("vqav2");
  ASSERT_TRUE(int4.difference.has_value());
  EXPECT_NEAR(int4.difference->value, static_cast<double>(int4.won - int4.lost) / 500, 1e-15);
  EXPECT_NEAR(int4.difference->value, int4.value.value - base.value.value, 1e-12);
  EXPECT_TRUE(int4.difference->worse());
  // A paired interval is far narrower than that of the accuracy itself.
  EXPECT_LT(int4.difference->high - int4.difference->low, int4.value.high - int4.value.low);
  EXPECT_FALSE(study.find("int8_wo")->accuracy.at("vqav2").difference->tells());
  EXPECT_EQ(int4.score("", "vqav2"), 82.7 - 7);
  EXPECT_EQ(int4.score("", "none"), std::nullopt);
}

TEST(Summary, AveragesOverTokens) {
  const StudySummary study = synthetic_summary();
  const Divergence& kl = study.find("int4_wo")->divergence.at("kl");
  EXPECT_EQ(kl.samples, 100);
  EXPECT_LT(kl.kl.low, 0.199);
  EXPECT_GT(kl.kl.high, 0.199);
  EXPECT_LT(kl.agreement.value, 1);
  EXPECT_TRUE(study.find("bf16")->divergence.empty());
  const Perplexity& text = study.find("bf16")->perplexity.at("perplexity");
  EXPECT_NEAR(text.value.value, std::exp(0.225), 0.05);
}

TEST(Summary, NamesWhatIsMissing) {
  const TemporaryFolder folder;
  Store store = Store::create_or_resume(folder / "study.db", [] {
    StudyInfo info = testing::example_info();
    info.settings = {{"baseline", "bf16"}, {"configurations", {"bf16", "fp8"}}};
    return info;
  }());
  store.add_configuration(testing::example_configuration());
  store.add_task(testing::example_task());
  store.add_sample(testing::example_sample("vqav2/1"));
  EXPECT_THAT(summarize_study(store).unfinished(), ElementsAre("fp8: not begun", "vqav2 of bf16: 1 of 3 samples"));
}

TEST(Recommend, FollowsItsRules) {
  StudySummary study = synthetic_summary();
  const auto picks = recommend(study);
  ASSERT_EQ(picks.size(), 4u);
  EXPECT_EQ(picks[0].configuration, "int4_awq");  // half the bytes of int8_sq, and within the limit of divergence
  EXPECT_THAT(picks[0].reason, HasSubstr("KL divergence 0.03"));
  EXPECT_EQ(picks[1].configuration, "int4_awq");  // int4_wo is smaller, but loses more than two points
  EXPECT_EQ(picks[2].configuration, "int8_wo");
  EXPECT_EQ(picks[3].configuration, "fp8+kv:fp8_debiased");
  study.configurations.resize(1);
  EXPECT_EQ(recommend(study).at(0).configuration, "");
}

TEST(Recommend, TakesCachesInFp8AloneForFp8) {
  StudySummary study = synthetic_summary();
  const auto pick = [&] { return recommend(study).at(3).configuration; };
  const auto hold = [&](std::string_view configuration, const char* kv_format) {
    for (ConfigurationSummary& c : study.configurations) {
      if (c.row.name == configuration) c.row.kv_format = kv_format;
    }
  };
  ASSERT_EQ(pick(), "fp8+kv:fp8_debiased");
  hold("fp8+kv:fp8_debiased", "int8_head");  // the same bytes and the least divergence
  EXPECT_EQ(pick(), "fp8+kv:fp8_head");
  hold("fp8+kv:fp8_head", "int8_head");
  hold("fp8+kv:fp8_calibrated", "int8_calibrated");
  EXPECT_EQ(pick(), "fp8");  // fp8+kv:fp8 costs more than 0.02 nats
}

}  // namespace
}  // namespace halftone
