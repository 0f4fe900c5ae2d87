#include "eval/likelihood.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "eval/distributions.h"
#include "fake_session.h"

namespace halftone {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo";

TEST(LogSumExp, HandlesLargeLogits) {
  const float logits[] = {1000, 1000};
  EXPECT_DOUBLE_EQ(log_sum_exp(logits), 1000 + std::log(2.0));
  const float bad[] = {0, NAN};
  EXPECT_THROW(log_sum_exp(bad), Error);
  const float infinite[] = {0, INFINITY};
  EXPECT_THROW(log_sum_exp(infinite), Error);
}

TEST(KlDivergence, IsTheDefinition) {
  const float p[] = {std::log(0.5f), std::log(0.25f), std::log(0.25f)}, q[] = {0, 0, 0};
  // 0.5 log 1.5 + 2 * 0.25 log 0.75; logits in f32 are within 2^-24 of these logarithms.
  EXPECT_NEAR(kl_divergence(p, q), 0.5 * std::log(1.5) + 0.5 * std::log(0.75), 1e-7);
  EXPECT_EQ(kl_divergence(p, p), 0);
  const float shifted[] = {p[0] + 4, p[1] + 4, p[2] + 4};
  EXPECT_NEAR(kl_divergence(p, shifted), 0, 1e-6);  // the shift rounds each logit by at most 2^-22
  EXPECT_THROW(kl_divergence(p, std::span(q).first(2)), Error);
}

// What reference_eval.py counted in the same text.
TEST(Perplexity, ScoresTheTokensOfTheReference) {
  const Json scores = read_json(kDemo / "reference/reference.json")["scores"]["perplexity"];
  const auto tokenizer = Tokenizer::load(kDemo / "model");
  const TaskData data = perplexity_data(read_text_file(kDemo / "suite"), *tokenizer);
  FakeSession session([](std::size_t) { return std::vector<float>(4096, 0.0f); });
  std::int64_t answer_tokens = 0, window_tokens = 0;
  for (const Sample& sample : data.samples) {
    const LikelihoodResult result = measure_perplexity(session, sample);
    (sample.id.starts_with(kAnswersPrefix) ? answer_tokens : window_tokens) += result.tokens;
    // uniform predictions; each sum of up to tokens * log(4096) is rounded once
    const auto tokens = static_cast<double>(result.tokens), sum = tokens * std::log(4096.0);
    EXPECT_NEAR(result.nll, sum, (tokens + 1) * sum * 0x1p-53) << result.id;
  }
  EXPECT_EQ(answer_tokens, scores["answer_tokens"].get<std::int64_t>());
  EXPECT_EQ(window_tokens, scores["tokens"].get<std::int64_t>() / 256 * 255);
}

TEST(Perplexity, TakesTheTokenThatFollows) {
  const Sample sample{"perplexity/answers/0000", {}, "", {{"ids", {2, 0, 1, 2}}, {"predicted", {{1, 2}, {3, 4}}}}};
  FakeSession session([](std::size_t index) {
    std::vector<float> logits(3, 0.0f);
    logits[index == 1 ? 0 : 2] = std::log(2.0f);  // the right token at 1 and 3 has probability 1/2
    return logits;
  });
  const LikelihoodResult result = measure_perplexity(session, sample);
  EXPECT_EQ(result.tokens, 2);
  EXPECT_NEAR(result.nll, 2 * std::log(2.0), 1e-7);
}

class Kl : public testing::Test {
 protected:
  Kl() : path_(std::filesystem::temp_directory_path() / ("halftone_kl_" + std::to_string(getpid()))) {
    for (int i = 0; i < 6; ++i) samples_.push_back({(i < 4 ? "vqav2/" : "gqa/") + std::to_string(i), {}, "What?", {}});
    for (const Sample& sample : samples_) answers_.push_back({&sample, "What? Briefly.", {1, 2}});
  }
  ~Kl() override { std::filesystem::remove(path_); }

  const std::filesystem::path path_;
  const std::string identity_ = std::string(64, 'c');
  std::vector<Sample> samples_;
  std::vector<BaselineAnswer> answers_;
};

TEST_F(Kl, DrawsEvenlyOverTasks) {
  const TaskData data = kl_data(answers_, 4, 1);
  ASSERT_EQ(data.samples.size(), 4u);
  EXPECT_TRUE(data.samples[1].id.starts_with("vqav2/"));
  EXPECT_TRUE(data.samples[2].id.starts_with("gqa/"));
  EXPECT_EQ(data.samples[0].question, "What? Briefly.");
  EXPECT_EQ(kl_data(answers_, 0, 1).samples.size(), 6u);
  EXPECT_NE(kl_data(answers_, 0, 1).data_hash, data.data_hash);
}

TEST_F(Kl, ComparesWithWhatTheBaselinePredicted) {
  const TaskData data = kl_data(answers_, 0, 1);
  FakeSession baseline([](std::size_t) { return std::vector<float>{0, std::log(2.0f), 0}; });
  FakeSession other([](std::size_t index) {
    return index == 0 ? std::vector<float>{0, 0, 0.5} : std::vector<float>{0, 1, 0};
  });
  DistributionWriter writer(path_, identity_, 3);
  for (const Sample& sample : data.samples) {
    const LikelihoodResult result = record_baseline(baseline, sample, writer);
    EXPECT_EQ(result.kl, 0.0);
    EXPECT_EQ(result.top1_agree, 2);
    EXPECT_NEAR(result.nll, std::log(2.0) + std::log(4.0), 1e-7);
  }
  const DistributionReader reader(path_, identity_);
  const float p[] = {0, std::log(2.0f), 0}, first[] = {0, 0, 0.5}, second[] = {0, 1, 0};
  for (const Sample& sample : data.samples) {
    const LikelihoodResult result = measure_kl(other, sample, reader);
    EXPECT_DOUBLE_EQ(*result.kl, kl_divergence(p, first) + kl_divergence(p, second));
    EXPECT_EQ(result.top1_agree, 1);
    EXPECT_EQ(result.tokens, 2);
    EXPECT_EQ(*measure_kl(baseline, sample, reader).kl, 0.0);
  }
  Sample changed = data.samples[0];
  changed.truth["tokens"] = {1, 1};
  EXPECT_THROW(measure_kl(other, changed, reader), Error);
}

}  // namespace
}  // namespace halftone
