// The tasks on the demo model: answers, scores, perplexity and KL divergence from the engine itself.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "eval/answer.h"
#include "eval/distributions.h"
#include "eval/likelihood.h"
#include "eval/runner.h"

namespace halftone {
namespace {

const std::filesystem::path kRoot = HALFTONE_SOURCE_DIR;
const std::filesystem::path kDemo = kRoot / "demo";

const std::shared_ptr<const Engine>& engine() {
  static const auto engine = [] {
    EngineOptions options;
    options.picture_cache = make_picture_cache(64 << 20);
    return Engine::load(kDemo / "model", options);
  }();
  return engine;
}

std::unique_ptr<Session> session() { return Session::create(engine(), 1); }

std::vector<const Sample*> all_of(const TaskData& data) {
  return samples_to_do(data, [](const std::string&) { return false; });
}

std::map<std::string, AnswerResult> answer_all(const Task& task, const TaskData& data, int workers) {
  const PromptRule rule = prompt_rule("suite", task.name);
  std::map<std::string, AnswerResult> results;
  RunOptions options;
  options.workers = workers;
  EXPECT_TRUE(run_samples<AnswerResult>(
      session, all_of(data), [&](Session& s, const Sample& sample) { return answer_sample(s, task, rule, sample); },
      [&](const AnswerResult& result) { results.emplace(result.id, result); }, options));
  return results;
}

TEST(EngineAnswers, DoNotDependOnTheNumberOfWorkers) {
  for (const Task& task : all_tasks()) {
    const TaskData data = take_samples(task.read(kDemo / "suite"), 4, 3);
    const auto one = answer_all(task, data, 1), two = answer_all(task, data, 2);
    ASSERT_EQ(one.size(), data.samples.size()) << task.name;
    ASSERT_EQ(two.size(), data.samples.size()) << task.name;
    for (const auto& [id, result] : one) {
      const AnswerResult& other = two.at(id);
      EXPECT_EQ(other.answer, result.answer) << id;
      EXPECT_EQ(other.tokens, result.tokens) << id;
      EXPECT_EQ(other.smallest_gap, result.smallest_gap) << id;
      EXPECT_EQ(other.verdict.value, result.verdict.value) << id;
      EXPECT_EQ(other.verdict.score, result.verdict.score) << id;
      EXPECT_EQ(other.picture.size(), 64u) << id;
    }
  }
}

TEST(EnginePerplexity, AgreesWithTransformers) {
  const TaskData data = perplexity_data(read_text_file(kDemo / "suite"), *engine()->tokenizer());
  std::map<std::string, const Sample*> samples;
  for (const Sample& sample : data.samples) samples[sample.id] = &sample;
  const auto worker = session();
  for (const Json& row : read_json(kRoot / "tests/golden/perplexity.json")) {
    const LikelihoodResult result = measure_perplexity(*worker, *samples.at(row["id"]));
    EXPECT_EQ(result.tokens, row["tokens"].get<std::int64_t>()) << result.id;
    // Each logit is within 1e-4 of the largest, and a log-probability moves by at most twice what its logits do.
    const double tolerance = 2e-4 * row["largest_logit"].get<double>() * static_cast<double>(result.tokens);
    EXPECT_NEAR(result.nll, row["nll"].get<double>(), tolerance) << result.id;
  }
}

// All of the text, as reference.json has it, to its four decimals. Takes a minute, so only with HALFTONE_PARITY=all.
TEST(EnginePerplexity, EqualsTheReference) {
  if (std::getenv("HALFTONE_PARITY") == nullptr) GTEST_SKIP() << "set HALFTONE_PARITY=all";
  const Json scores = read_json(kDemo / "reference/reference.json")["scores"]["perplexity"];
  const TaskData data = perplexity_data(read_text_file(kDemo / "suite"), *engine()->tokenizer());
  struct Sum {
    double nll = 0;
    std::int64_t tokens = 0;
  } answers, windows;
  run_samples<LikelihoodResult>(session, all_of(data), measure_perplexity,
                                [&](const LikelihoodResult& result) {
                                  Sum& sum = result.id.starts_with(kAnswersPrefix) ? answers : windows;
                                  sum.nll += result.nll;
                                  sum.tokens += result.tokens;
                                },
                                {});
  const auto perplexity = [](const Sum& sum) { return std::exp(sum.nll / static_cast<double>(sum.tokens)); };
  EXPECT_NEAR(perplexity(answers), scores["answers"].get<double>(), 0.5e-4);
  EXPECT_NEAR(perplexity(windows), scores["every_token"].get<double>(), 0.5e-4);
}

TEST(EngineKl, IsZeroForTheBaselineAndNotForAnUncalibratedCache) {
  const Task& task = find_task("vqav2");
  const TaskData data = take_samples(task.read(kDemo / "suite"), 4, 5);
  std::vector<BaselineAnswer> answers;
  const auto results = answer_all(task, data, 2);
  for (const Sample& sample : data.samples) {
    answers.push_back({&sample, prompt_rule("suite", "vqav2").apply(sample.question), results.at(sample.id).tokens});
  }
  const TaskData kl = kl_data(answers, 0, 1);
  const auto path = std::filesystem::temp_directory_path() / ("halftone_engine_kl_" + std::to_string(getpid()));
  const std::string identity(64, '0');
  const auto worker = session();
  {
    DistributionWriter writer(path, identity, engine()->info().vocabulary);
    for (const Sample& sample : kl.samples) record_baseline(*worker, sample, writer);
  }
  const DistributionReader reader(path, identity);
  EngineOptions saturating;
  saturating.kv_format = "fp8";
  const auto other = Session::create(Engine::load(kDemo / "model", saturating), 1);
  double sum = 0;
  for (const Sample& sample : kl.samples) {
    const LikelihoodResult same = measure_kl(*worker, sample, reader);
    EXPECT_EQ(*same.kl, 0.0) << sample.id;
    EXPECT_EQ(same.top1_agree, same.tokens) << sample.id;
    const LikelihoodResult changed = measure_kl(*other, sample, reader);
    EXPECT_GE(*changed.kl, 0.0) << sample.id;
    sum += *changed.kl;
  }
  EXPECT_GT(sum, 0.0);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace halftone
