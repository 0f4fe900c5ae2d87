// What engine.h promises, on the demo model: a result depends on the prompt and the engine alone. All comparisons are
// of bits.

#include "runtime/engine.h"

#include <gmock/gmock.h>

#include <cstring>
#include <thread>

#include "base/hash.h"
#include "hf/safetensors.h"
#include "model/model.h"
#include "tests/model/patched_checkpoint.h"
#include "tests/runtime/some_prompts.h"

namespace halftone {
namespace {

using testing::ask;
using testing::some_prompts;

const std::filesystem::path kDemo = testing::demo_folder();

std::shared_ptr<const PictureFile> picture(const char* name) {
  return read_picture_file(kDemo / "suite/val2014" / name);
}

SamplingOptions options_of(std::int64_t tokens) {
  SamplingOptions options;
  options.max_new_tokens = tokens;
  options.ignore_eos = true;
  return options;
}

// For tests that are not about the vision tower: each picture is encoded once.
EngineOptions with_shared_pictures() {
  static const std::shared_ptr<PictureCache> cache = make_picture_cache(1 << 24);
  EngineOptions options;
  options.picture_cache = cache;
  return options;
}

// What must not depend on anything but the prompt.
struct Answer {
  std::vector<TokenId> tokens;
  float gap = 0;
  bool operator==(const Answer&) const = default;
};

Answer answer_of(const Generation& generation) { return {generation.tokens, generation.smallest_gap}; }

std::vector<Answer> answers_one_by_one(const EngineOptions& options, int threads, bool fresh_sessions,
                                       const std::filesystem::path& folder = kDemo / "model") {
  const auto engine = Engine::load(folder, options);
  std::unique_ptr<Session> session = Session::create(engine, threads);
  std::vector<Answer> answers;
  for (const Prompt& prompt : some_prompts()) {
    if (fresh_sessions) session = Session::create(engine, threads);
    answers.push_back(answer_of(session->generate(prompt, options_of(6))));
  }
  return answers;
}

std::string sha256_of(std::span<const float> values) {
  return sha256_hex({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

std::vector<std::string> scored(Session& session, const Prompt& prompt, std::span<const TokenId> answer) {
  std::vector<std::string> hashes(answer.size());
  session.score(prompt, answer,
                [&](std::size_t i, std::span<const float> logits) { hashes.at(i) = sha256_of(logits); });
  return hashes;
}

class EngineBits : public ::testing::TestWithParam<Numerics> {};

TEST_P(EngineBits, DoNotDependOnThreadsReuseOrCaches) {
  EngineOptions plain;
  plain.numerics = GetParam();
  plain.reuse_prefix = false;
  const std::vector<Answer> expected = answers_one_by_one(plain, 1, true);
  EXPECT_EQ(answers_one_by_one(plain, 2, false), expected) << "two threads";
  EngineOptions reusing = plain;
  reusing.reuse_prefix = true;
  EXPECT_EQ(answers_one_by_one(reusing, 1, false), expected) << "prefix reuse";
  reusing.picture_cache = make_picture_cache(1 << 20);
  EXPECT_EQ(answers_one_by_one(reusing, 2, false), expected) << "picture cache, being filled";
  EXPECT_EQ(answers_one_by_one(reusing, 1, true), expected) << "picture cache, filled";
}

TEST_P(EngineBits, DoNotDependOnTheBatch) {
  EngineOptions options = with_shared_pictures();
  options.numerics = GetParam();
  const std::vector<Answer> expected = answers_one_by_one(options, 1, true);
  const std::unique_ptr<Session> session = Session::create(Engine::load(kDemo / "model", options), 2);
  for (int round = 0; round < 2; ++round) {  // the second round finds every prefix held
    std::vector<Answer> answers;
    for (const Generation& generation : session->generate_batch(some_prompts(), options_of(6))) {
      answers.push_back(answer_of(generation));
    }
    EXPECT_EQ(answers, expected) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Numerics, EngineBits, ::testing::Values(Numerics::kF32, Numerics::kBF16),
                         [](const auto& info) { return info.param == Numerics::kF32 ? "f32" : "bf16"; });

TEST(Engine, ScoringGivesTheLogitsOfGenerating) {
  const auto engine = Engine::load(kDemo / "model", with_shared_pictures());
  for (const Prompt& prompt : some_prompts()) {
    const std::unique_ptr<Session> session = Session::create(engine, 1), fresh = Session::create(engine, 2);
    const Generation generation = session->generate(prompt, options_of(5));
    std::vector<TokenId> best;
    float gap = std::numeric_limits<float>::infinity();
    fresh->score(prompt, generation.tokens, [&](std::size_t i, std::span<const float> logits) {
      EXPECT_EQ(i, best.size());
      std::vector<float> sorted(logits.begin(), logits.end());
      best.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
      gap = std::min(gap, sorted[0] - sorted[1]);
    });
    EXPECT_EQ(best, generation.tokens);
    EXPECT_EQ(gap, generation.smallest_gap);
    // after generating, and after another prompt, the same bits
    const std::vector<std::string> logits = scored(*fresh, prompt, generation.tokens);
    EXPECT_EQ(scored(*session, prompt, generation.tokens), logits);
    session->generate(some_prompts()[0], options_of(2));
    EXPECT_EQ(scored(*session, prompt, generation.tokens), logits);
  }
}

TEST(Engine, ScoreTextPredictsEveryTokenButTheFirst) {
  const auto engine = Engine::load(kDemo / "model");
  const std::unique_ptr<Session> session = Session::create(engine, 2);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 700; ++i) tokens.push_back(20 + i * 37 % 4000);  // longer than one piece of prefill
  std::vector<std::string> all;
  session->score_text(tokens, [&](std::size_t i, std::span<const float> logits) {
    EXPECT_EQ(i, all.size() + 1);
    all.push_back(sha256_of(logits));
  });
  EXPECT_EQ(all.size(), tokens.size() - 1);
  // a shorter text gives the same bits for its tokens
  std::vector<std::string> part;
  session->score_text(std::span(tokens).first(40),
                      [&](std::size_t, std::span<const float> logits) { part.push_back(sha256_of(logits)); });
  all.resize(part.size());
  EXPECT_EQ(part, all);
}

// The largest magnitudes of keys and values of each layer and head.
class KvPeaks final : public ModelObserver {
 public:
  void on_key_value(std::int64_t layer, const Tensor& keys, const Tensor& values, const Tensor&,
                    const Tensor&) override {
    const auto i = static_cast<std::size_t>(layer);
    k.resize(std::max(k.size(), i + 1), {1e-4f, 1e-4f});
    v.resize(std::max(v.size(), i + 1), {1e-4f, 1e-4f});
    raise(keys, k[i]);
    raise(values, v[i]);
  }
  std::vector<std::vector<float>> k, v;

 private:
  static void raise(const Tensor& x, std::vector<float>& peaks) {
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      float& peak = peaks.at(static_cast<std::size_t>(i / x.dim(2) % x.dim(1)));
      peak = std::max(peak, std::fabs(x.data<float>()[i]));
    }
  }
};

std::vector<std::vector<float>> scales_of(std::vector<std::vector<float>> peaks, float most) {
  for (std::vector<float>& layer : peaks) {
    for (float& peak : layer) peak /= most;
  }
  return peaks;
}

KvPeaks measure_peaks() {
  const Model model = Model::load(Checkpoint::open(kDemo / "model"), {Numerics::kF32, false}, default_stream());
  const DecoderConfig& config = model.config().decoder;
  Workspace workspace;
  KvPeaks peaks;
  PlainKvCache cache(config.layers, config.kv_heads, config.head_dim);
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 20; i < 100; ++i) tokens.push_back(i);
  const Positions positions = mrope_positions(tokens, config.vocabulary > 12 ? 12 : 0, {}, 2);
  const SequenceSlice slice{&cache, positions.values};
  Tensor hidden = model.embed(tokens);
  model.forward({&slice, 1}, hidden, {default_stream(), workspace, &peaks});
  return peaks;
}

TEST(Engine, EveryKvFormatKeepsItsBitsAndTellsItsName) {
  const KvPeaks peaks = measure_peaks();
  std::map<std::string, std::vector<Answer>> answers;
  for (const std::string format :
       {"bf16", "fp8", "fp8_calibrated", "fp8_head", "fp8_debiased", "int8_calibrated", "int8_head"}) {
    const testing::PatchedCheckpoint folder(kDemo / "model", [&](OrderedJson& config) {
      const float most = format.starts_with("int8") ? 127 : 448;
      OrderedJson k = scales_of(peaks.k, most), v = scales_of(peaks.v, most);
      config["halftone_kv_cache"] = {{"format", format}, {"k_scales", k}, {"v_scales", v}};
    });
    EngineOptions options = with_shared_pictures();
    const auto engine = Engine::load(folder.path(), options);
    EXPECT_EQ(engine->info().kv_format, format);
    EXPECT_EQ(engine->info().memory.kv_per_token, 8 * 2 * 2 * 64 * (format == "bf16" ? 4 : 1));
    options.reuse_prefix = false;
    answers[format] = answers_one_by_one(options, 1, true, folder.path());
    options.reuse_prefix = true;
    EXPECT_EQ(answers_one_by_one(options, 2, false, folder.path()), answers[format]) << format;
    std::vector<Answer> batch;
    for (const Generation& g : Session::create(engine, 1)->generate_batch(some_prompts(), options_of(6))) {
      batch.push_back(answer_of(g));
    }
    EXPECT_EQ(batch, answers[format]) << format;
  }
  for (const auto& [format, answer] : answers) {
    for (const auto& [other, theirs] : answers) {
      EXPECT_EQ(answer == theirs, format == other) << format << " and " << other;
    }
  }
}

TEST(Engine, ReusesWhatPromptsShare) {
  const auto engine = Engine::load(kDemo / "model");
  const std::unique_ptr<Session> session = Session::create(engine, 1);
  const auto first = picture("COCO_val2014_000000001123.jpg"), second = picture("COCO_val2014_000000004325.jpg");
  const Generation one = session->generate(ask("Is it day?", {first}), options_of(1));
  EXPECT_EQ(one.reused_tokens, 0);
  EXPECT_GT(one.visual_tokens, 0);
  const Generation again = session->generate(ask("Is it day?", {first}), options_of(1));
  EXPECT_EQ(again.reused_tokens, again.prompt_tokens - 1);
  const Generation other = session->generate(ask("What is it?", {first}), options_of(1));
  EXPECT_GT(other.reused_tokens, other.visual_tokens);
  // the same text with another picture shares only what comes before the picture
  const Generation different = session->generate(ask("What is it?", {second}), options_of(1));
  EXPECT_LT(different.reused_tokens, 30);
}

TEST(Engine, OneEngineServesManyThreads) {
  const auto engine = Engine::load(kDemo / "model", with_shared_pictures());
  const std::vector<Answer> expected = answers_one_by_one(with_shared_pictures(), 1, true);
  std::vector<std::vector<Answer>> results(3);
  {
    std::vector<std::jthread> workers;
    for (auto& result : results) {
      workers.emplace_back([&] {
        const std::unique_ptr<Session> session = Session::create(engine, 1);
        for (const Prompt& prompt : some_prompts()) {
          result.push_back(answer_of(session->generate(prompt, options_of(6))));
        }
      });
    }
  }
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(Engine, StreamsWhatItReturns) {
  const std::unique_ptr<Session> session = Session::create(Engine::load(kDemo / "model"), 1);
  std::string streamed;
  const Prompt prompt = some_prompts()[1];
  SamplingOptions options;
  options.max_new_tokens = 20;
  const Generation whole = session->generate(prompt, options, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  EXPECT_EQ(streamed, whole.text);
  EXPECT_TRUE(whole.stopped);
  EXPECT_EQ(whole.times.tokens.size() + 1, whole.tokens.size());
  EXPECT_GT(whole.times.vision, 0);
  EXPECT_GT(whole.times.prefill, 0);
  int calls = 0;
  const Generation cut = session->generate(prompt, options, [&](std::string_view) { return ++calls < 2; });
  EXPECT_FALSE(cut.stopped);
  EXPECT_LT(cut.tokens.size(), whole.tokens.size());
}

TEST(Engine, TellsAStopFromTheLimit) {
  const std::unique_ptr<Session> session = Session::create(Engine::load(kDemo / "model", with_shared_pictures()), 1);
  const Prompt prompt = some_prompts()[1];
  SamplingOptions options;
  options.max_new_tokens = 20;
  const std::int64_t length = std::ssize(session->generate(prompt, options).tokens);
  ASSERT_LT(length, 20);
  options.max_new_tokens = length;
  EXPECT_TRUE(session->generate(prompt, options).stopped);  // the stop token is the last one allowed, too
  options.max_new_tokens = length - 1;
  EXPECT_FALSE(session->generate(prompt, options).stopped);
  options.max_new_tokens = length;
  options.ignore_eos = true;
  EXPECT_FALSE(session->generate(prompt, options).stopped);
}

TEST(Engine, SamplesBySeed) {
  const std::unique_ptr<Session> session = Session::create(Engine::load(kDemo / "model"), 1);
  SamplingOptions options = options_of(12);
  options.temperature = 3;
  options.seed = 7;
  const Prompt prompt = some_prompts()[0];
  const std::vector<TokenId> first = session->generate(prompt, options).tokens;
  EXPECT_EQ(session->generate(prompt, options).tokens, first);
  options.seed = 8;
  EXPECT_NE(session->generate(prompt, options).tokens, first);
}

TEST(Engine, PromptsThatDoNotFitAreErrors) {
  const auto engine = Engine::load(kDemo / "model");
  const std::unique_ptr<Session> session = Session::create(engine, 1);
  const auto error_of = [&](const Prompt& prompt) -> std::string {
    try {
      session->generate(prompt, options_of(1));
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  Prompt missing = ask("What is it?", {picture("COCO_val2014_000000001123.jpg")});
  missing.pictures.clear();
  EXPECT_THAT(error_of(missing), ::testing::HasSubstr("expected a picture for each placeholder"));
  Prompt surplus = ask("What is it?", {});
  surplus.pictures.push_back(picture("COCO_val2014_000000001123.jpg"));
  EXPECT_THAT(error_of(surplus), ::testing::HasSubstr("expected 1 pictures in the messages, got 0"));
  EXPECT_THAT(error_of({}), ::testing::HasSubstr("at least one token"));
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "day ";
  EXPECT_THAT(error_of(ask(text, {})), ::testing::HasSubstr("at most 4096 tokens"));
  auto broken = std::make_shared<PictureFile>(PictureFile{"broken.jpg", "no picture", sha256_hex("no picture")});
  EXPECT_THAT(error_of(ask("What is it?", {broken})), ::testing::HasSubstr("broken.jpg"));
  EXPECT_THROW(session->score(ask("What is it?", {}), std::vector<TokenId>{1, 99999, 2}, [](auto, auto) {}), Error);
  // the session still works
  EXPECT_EQ(answer_of(session->generate(some_prompts()[0], options_of(6))),
            answers_one_by_one(with_shared_pictures(), 1, true)[0]);
}

TEST(Engine, LogitsThatAreNoNumbersAreAnError) {
  const testing::PatchedCheckpoint folder(kDemo / "model", [](OrderedJson&) {});
  std::string file = read_file(kDemo / "model/model.safetensors");
  const SafetensorsHeader header = parse_safetensors_header(std::as_bytes(std::span(file)), "model.safetensors");
  const std::uint16_t nan = 0x7fc0;  // bf16
  std::memcpy(file.data() + header.data_begin + header.tensors.at("model.norm.weight").begin, &nan, sizeof nan);
  std::filesystem::remove(folder.path() / "model.safetensors");
  write_file_atomically(folder.path() / "model.safetensors", file);
  const std::unique_ptr<Session> session = Session::create(Engine::load(folder.path()), 1);
  const Prompt prompt = some_prompts()[5];
  EXPECT_THROW(session->generate(prompt, options_of(1)), Error);
  EXPECT_THROW(session->score(prompt, std::vector<TokenId>{1}, [](auto, auto) {}), Error);
}

// Loading the weights fails, too, and takes longer.
TEST(Engine, AMissingTokenizerIsToldBeforeTheWeightsAreLoaded) {
  const testing::PatchedCheckpoint folder(kDemo / "model", [](OrderedJson& config) {
    config["num_hidden_layers"] = config["num_hidden_layers"].get<int>() + 1;
  });
  const auto load_error = [&]() -> std::string {
    try {
      Engine::load(folder.path());
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(load_error(), ::testing::HasSubstr("layers"));
  const std::filesystem::path tokenizer = folder.path() / "tokenizer.json";
  std::filesystem::remove(tokenizer);
  EXPECT_EQ(load_error(), "[read file] " + tokenizer.string() + ": no such file");
  std::filesystem::create_directory(tokenizer);
  EXPECT_EQ(load_error(), "[read file] " + tokenizer.string() + ": expected a file, found a folder");
}

TEST(Engine, TellsWhatItIs) {
  const auto engine = Engine::load(kDemo / "model");
  const EngineInfo& info = engine->info();
  EXPECT_EQ(info.checkpoint, "model");
  EXPECT_EQ(info.numerics, "f32");
  EXPECT_EQ(info.kv_format, "bf16");
  EXPECT_EQ(info.products, "native");
  EXPECT_EQ(info.vocabulary, 4096);
  EXPECT_EQ(info.budget, (PixelBudget{3136, 50176}));
  EXPECT_EQ(info.weights_hash.size(), 64u);
  EXPECT_NE(info.weights_hash, info.vision_hash);
  EXPECT_FALSE(info.instruction_set.empty());
  EXPECT_EQ(info.memory.kv_per_token, 8 * 2 * 2 * 64 * 4);
  EXPECT_FALSE(info.memory.weights.empty());
}

}  // namespace
}  // namespace halftone
