// Greedy answers to the demo's whole suite against transformers in f32 (demo/reference/reference.json): equal token for
// token wherever the two best logits are more than 0.02 apart on the way. A share of the pictures runs by default,
// all of them with HALFTONE_PARITY=all (the ctest "parity.all_answers", label "slow").

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <unordered_map>

#include "data/readers.h"
#include "runtime/engine.h"

namespace halftone {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo";
constexpr double kTie = 0.02;       // reference.json: a smaller gap is within rounding
constexpr std::size_t kShare = 16;  // one picture in so many by default
constexpr int kWorkers = 2;

struct Question {
  std::string picture, text;
  std::vector<std::string> keys;  // of its rows in reference.json: "task/id"
  std::int64_t new_tokens = 0;
};

struct Expected {
  std::vector<TokenId> tokens;
  double gap = 0;
};

std::vector<Question> read_questions(const Json& run) {
  struct Source {
    std::string name;
    TaskData data;
  };
  const std::filesystem::path suite = kDemo / "suite";
  const std::vector<Source> sources{{"vqav2", read_vqav2(suite)},         {"gqa", read_gqa(suite)},
                                    {"pope", read_pope(suite)},           {"mme", read_mme(suite)},
                                    {"grounding", read_grounding(suite)}, {"llava_bench", read_llava_bench(suite)}};
  std::vector<Question> questions;
  for (const Source& source : sources) {
    for (const Sample& sample : source.data.samples) {
      Question question{sample.pictures.at(0).string(),
                        sample.question + run["suffixes"][source.name].get<std::string>(),
                        {},
                        run["new_tokens"][source.name]};
      if (sample.truth.contains("asks")) {
        for (const Json& ask : sample.truth["asks"])
          question.keys.push_back(source.name + "/" + ask.get<std::string>());
      } else {
        question.keys.push_back(source.name + sample.id.substr(sample.id.find('/')));
      }
      questions.push_back(std::move(question));
    }
  }
  return questions;
}

std::unordered_map<std::string, Expected> read_reference(const Json& reference) {
  std::unordered_map<std::string, Expected> expected;
  for (const Json& row : reference["samples"]) {
    const std::string id = row["id"].is_string() ? row["id"].get<std::string>() : row["id"].dump();
    expected[row["task"].get<std::string>() + "/" + id] = {row["tokens"].get<std::vector<TokenId>>(), row["gap"]};
  }
  return expected;
}

// One worker's part: the pictures whose number it gets. Questions on one picture come one after another.
void answer(const std::shared_ptr<const Engine>& engine, const std::vector<std::vector<Question>>& pictures,
            std::size_t first, std::vector<std::pair<const Question*, Generation>>& answers) {
  const std::unique_ptr<Session> session = Session::create(engine, 1);
  for (std::size_t i = first; i < pictures.size(); i += kWorkers) {
    for (const Question& question : pictures[i]) {
      Prompt prompt{{user_message(question.text, 1)}, {read_picture_file(question.picture)}, ""};
      SamplingOptions options;
      options.max_new_tokens = question.new_tokens;
      answers.emplace_back(&question, session->generate(prompt, options));
    }
  }
}

TEST(Answers, EqualTransformersTokenForToken) {
  const Json reference = read_json(kDemo / "reference/reference.json");
  const auto expected = read_reference(reference);
  const char* mode = std::getenv("HALFTONE_PARITY");
  const bool all = mode != nullptr && std::string_view(mode) == "all";
  std::map<std::string, std::vector<Question>> by_picture;
  std::size_t rows = 0;
  for (Question& question : read_questions(reference["run"])) {
    rows += question.keys.size();
    for (const std::string& key : question.keys) ASSERT_TRUE(expected.contains(key)) << key;
    by_picture[question.picture].push_back(std::move(question));
  }
  EXPECT_EQ(rows, expected.size());
  std::vector<std::vector<Question>> pictures;
  std::size_t number = 0;
  for (auto& [name, questions] : by_picture) {
    if (all || number++ % kShare == 0) pictures.push_back(std::move(questions));
  }
  EngineOptions options;
  options.picture_cache = make_picture_cache(64 << 20);
  const std::shared_ptr<const Engine> engine = Engine::load(kDemo / "model", options);
  std::vector<std::pair<const Question*, Generation>> answers[kWorkers];
  {
    std::vector<std::jthread> workers;
    for (std::size_t i = 0; i < kWorkers; ++i) {
      workers.emplace_back([&, i] { answer(engine, pictures, i, answers[i]); });
    }
  }
  std::size_t compared = 0, ties = 0;
  for (const auto& part : answers) {
    for (const auto& [question, generation] : part) {
      for (const std::string& key : question->keys) {
        const Expected& wanted = expected.at(key);
        if (wanted.gap <= kTie) {
          ++ties;
          continue;
        }
        ++compared;
        EXPECT_EQ(generation.tokens, wanted.tokens) << key << ": " << question->text << " -> " << generation.text;
        // the gap itself agrees, too: to the reference's four digits and the rounding of the logits
        EXPECT_NEAR(generation.smallest_gap, wanted.gap, 2e-3) << key;
      }
    }
  }
  EXPECT_GE(compared, all ? std::size_t{3381} : std::size_t{100});
  RecordProperty("compared", static_cast<int>(compared));
  RecordProperty("ties", static_cast<int>(ties));
}

}  // namespace
}  // namespace halftone
