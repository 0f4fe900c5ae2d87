// What engine.h promises, on a GPU; and that it computes what the CPU does.
#include <gmock/gmock.h>

#include <set>

#include "tests/model/patched_checkpoint.h"
#include "tests/ops/device_test.h"
#include "tests/runtime/compare_devices.h"

namespace halftone {
namespace {

class DeviceEngine : public testing::DeviceTest {
 protected:
  static EngineOptions options(bool reuse_prefix) {
    EngineOptions options;
    options.device = Device::kCuda;
    options.numerics = Numerics::kBF16;
    options.reuse_prefix = reuse_prefix;
    options.device_sequences = 8;
    return options;
  }
  static SamplingOptions sampling(std::int64_t tokens, double temperature = 0) {
    SamplingOptions sampling;
    sampling.max_new_tokens = tokens;
    sampling.ignore_eos = true;
    sampling.temperature = temperature;
    return sampling;
  }
};

template <typename Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

struct Answer {
  std::vector<TokenId> tokens;
  float gap = 0;
  bool operator==(const Answer&) const = default;
};
Answer answer_of(const Generation& generation) { return {generation.tokens, generation.smallest_gap}; }

TEST_F(DeviceEngine, ComputesWhatTheCpuDoes) {
  const testing::DeviceDifference difference =
      testing::compare_engines(testing::demo_folder() / "model", testing::on_gpu(), 6);
  EXPECT_EQ(difference.tokens, 36);
  EXPECT_LT(difference.mean_kl, 1e-3);
  EXPECT_EQ(difference.clear_flips, 0);
}

// With a cache of the format, whose largest code is `most`: keys beyond some 2 and values beyond some 10 saturate.
testing::DeviceDifference difference_with_codes(const std::string& format, float most) {
  const testing::PatchedCheckpoint folder(testing::demo_folder() / "model", [&](OrderedJson& config) {
    std::vector<std::vector<float>> k, v;
    for (int layer = 0; layer < 8; ++layer) {
      const float factor = (1.0f + 0.1f * static_cast<float>(layer)) * 448 / most;
      k.push_back({0.004f * factor, 0.006f * factor});
      v.push_back({0.02f * factor, 0.03f * factor});
    }
    config["halftone_kv_cache"] = {{"format", format}, {"k_scales", k}, {"v_scales", v}};
  });
  return testing::compare_engines(folder.path(), testing::on_gpu(), 6);
}

// The demo model's few keys of 1,000 and more would jump by a sixteenth, or several units, where a last place decides their code.
// With these scales they saturate, and what rounding alone does to the CPU's distributions (numerics f32 from bf16) is 0.0005
// in E4M3 and 0.0006 in INT8.
TEST_F(DeviceEngine, ComputesWhatTheCpuDoesWithCodesInTheCache) {
  for (const auto& [format, most] : {std::pair{"fp8_head", 448.0f}, std::pair{"int8_head", 127.0f}}) {
    const testing::DeviceDifference difference = difference_with_codes(format, most);
    EXPECT_EQ(difference.tokens, 36) << format;
    EXPECT_LT(difference.mean_kl, 0.002) << format;
    EXPECT_EQ(difference.clear_flips, 0) << format;
  }
}

TEST_F(DeviceEngine, AnswersDoNotDependOnBatchesPrefixesOrWhatRanBefore) {
  const auto engine = Engine::load(testing::demo_folder() / "model", options(false));
  const std::vector<Prompt> prompts = testing::some_prompts();
  std::vector<Answer> alone;
  for (const Prompt& prompt : prompts) {
    alone.push_back(answer_of(Session::create(engine)->generate(prompt, sampling(70))));
  }
  const auto session = Session::create(engine);
  for (int round = 0; round < 2; ++round) {
    const std::vector<Generation> batch = session->generate_batch(prompts, sampling(70));
    for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(answer_of(batch[i]), alone[i]) << i;
  }
  const auto reusing_engine = Engine::load(testing::demo_folder() / "model", options(true));
  const auto reusing = Session::create(reusing_engine);
  std::int64_t reused = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Generation generation = reusing->generate(prompts[i], sampling(70));
    EXPECT_EQ(answer_of(generation), alone[i]) << i;
    reused += generation.reused_tokens;
  }
  EXPECT_GT(reused, 0);
  // of one batch, too: prompts about one picture wait for the first of them
  const std::vector<Generation> batch = Session::create(reusing_engine)->generate_batch(prompts, sampling(70));
  for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(answer_of(batch[i]), alone[i]) << i;
  EXPECT_GE(batch[1].reused_tokens, 64);
}

// Prompts of many lengths that are read together, in more than one pass.
TEST_F(DeviceEngine, AnswersDoNotDependOnPromptsThatAreReadTogether) {
  const auto engine = Engine::load(testing::demo_folder() / "model", options(false));
  std::vector<Prompt> prompts = testing::some_prompts();
  prompts.resize(3);
  std::int64_t tokens = 0;
  for (const int words : {1, 2000, 700, 2500, 3000}) {
    std::string text = "Count the words:";
    for (int i = 0; i < words; ++i) text += i % 3 == 0 ? " red" : " dog";
    prompts.push_back(testing::ask(text, {}));
    tokens += static_cast<std::int64_t>(engine->tokenize(prompts.back()).size());
  }
  EXPECT_GT(tokens, 8192);
  std::vector<Answer> alone;
  for (const Prompt& prompt : prompts) {
    alone.push_back(answer_of(Session::create(engine)->generate(prompt, sampling(4))));
  }
  std::reverse(prompts.begin(), prompts.end());
  std::reverse(alone.begin(), alone.end());
  const std::vector<Generation> batch = Session::create(engine)->generate_batch(prompts, sampling(4));
  for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(answer_of(batch[i]), alone[i]) << i;
}

// Sequences that end one after another, as stop tokens come.
TEST_F(DeviceEngine, AnswersDoNotDependOnWhoStopsBefore) {
  const auto engine = Engine::load(testing::demo_folder() / "model", options(false));
  const std::vector<Prompt> prompts = testing::some_prompts();
  SamplingOptions until_stop = sampling(40);
  until_stop.ignore_eos = false;
  const std::vector<Generation> batch = Session::create(engine)->generate_batch(prompts, until_stop);
  std::set<std::size_t> lengths;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(answer_of(batch[i]), answer_of(Session::create(engine)->generate(prompts[i], until_stop))) << i;
    lengths.insert(batch[i].tokens.size());
  }
  EXPECT_GT(lengths.size(), 1u);
}

TEST_F(DeviceEngine, TheSecondTurnDoesNotDependOnTheFirstOnesSession) {
  const auto engine = Engine::load(testing::demo_folder() / "model", options(true));
  const auto session = Session::create(engine);
  Prompt prompt = testing::some_prompts()[0];
  const Generation first = session->generate(prompt, sampling(12));
  prompt.messages.push_back({"assistant", {{ContentPart::Kind::kText, first.text}}});
  prompt.messages.push_back(user_message("Are you sure?", 0));
  const Generation second = session->generate(prompt, sampling(12));
  EXPECT_GT(second.reused_tokens, 0);
  EXPECT_EQ(answer_of(second), answer_of(Session::create(engine)->generate(prompt, sampling(12))));
}

TEST_F(DeviceEngine, PicturesFromTheCacheGiveTheSameAnswers) {
  EngineOptions with_cache = options(false);
  with_cache.picture_cache = make_picture_cache();
  const auto session = Session::create(Engine::load(testing::demo_folder() / "model", with_cache));
  const Prompt prompt = testing::some_prompts()[3];
  const Answer first = answer_of(session->generate(prompt, sampling(8)));
  const Generation again = session->generate(prompt, sampling(8));
  EXPECT_EQ(answer_of(again), first);
  EXPECT_EQ(again.times.vision, 0);
}

TEST_F(DeviceEngine, DrawsTokensFromTheSeed) {
  const auto session = Session::create(Engine::load(testing::demo_folder() / "model", options(true)));
  const Prompt prompt = testing::some_prompts()[0];
  const Answer first = answer_of(session->generate(prompt, sampling(20, 1.5)));
  EXPECT_EQ(answer_of(session->generate(prompt, sampling(20, 1.5))), first);
  EXPECT_NE(answer_of(session->generate(prompt, sampling(20))).tokens, first.tokens);
  const std::vector<Prompt> two = {testing::some_prompts()[2], prompt};
  EXPECT_EQ(answer_of(session->generate_batch(two, sampling(20, 1.5))[1]), first);
}

// What earlier requests left in the cache goes when a later one needs the room.
TEST_F(DeviceEngine, ALongAnswerTakesThePagesOfIdleSequences) {
  const std::vector<Prompt> prompts = testing::some_prompts();
  constexpr std::int64_t kPage = 64;
  std::int64_t pages = 1;
  {
    const auto engine = Engine::load(testing::demo_folder() / "model", options(true));
    for (const Prompt& prompt : prompts) {
      pages += (static_cast<std::int64_t>(engine->tokenize(prompt).size()) + 8) / kPage + 1;
    }
  }
  EngineOptions just_enough = options(true);
  just_enough.device_kv_tokens = pages * kPage;
  const auto engine = Engine::load(testing::demo_folder() / "model", just_enough);
  const auto session = Session::create(engine);
  session->generate_batch(prompts, sampling(8));
  const auto length = static_cast<std::int64_t>(engine->tokenize(prompts[5]).size());
  const SamplingOptions rest = sampling(std::min<std::int64_t>(400, pages * kPage - length));
  const Answer answer = answer_of(session->generate(prompts[5], rest));
  EXPECT_EQ(answer.tokens.size(), static_cast<std::size_t>(rest.max_new_tokens));
  EXPECT_EQ(answer, answer_of(Session::create(engine)->generate(prompts[5], rest)));
  const std::vector<Generation> batch = session->generate_batch(prompts, sampling(8));
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(answer_of(batch[i]), answer_of(Session::create(engine)->generate(prompts[i], sampling(8)))) << i;
  }
}

TEST_F(DeviceEngine, SaysWhatItCannotDo) {
  EngineOptions f32 = options(false);
  f32.numerics = Numerics::kF32;
  EXPECT_THROW(Engine::load(testing::demo_folder() / "model", f32), Error);
  EngineOptions small = options(false);
  small.device_kv_tokens = 64;
  const auto session = Session::create(Engine::load(testing::demo_folder() / "model", small));
  EXPECT_THAT(error_of([&] { session->generate(testing::some_prompts()[5], sampling(100)); }),
              ::testing::HasSubstr("the cache is full"));
  EXPECT_EQ(session->generate(testing::some_prompts()[5], sampling(4)).tokens.size(), 4u);
  const std::vector<Prompt> many(9, testing::some_prompts()[5]);
  EXPECT_THAT(error_of([&] { session->generate_batch(many, sampling(1)); }),
              ::testing::HasSubstr("expected at most 8 prompts at once, got 9"));
}

}  // namespace
}  // namespace halftone
