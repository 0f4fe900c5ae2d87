#include "eval/prompts.h"

#include <gtest/gtest.h>

#include <set>

#include "eval/task.h"

namespace halftone {
namespace {

constexpr const char* kShort = "\nAnswer the question using a single word or phrase.";

TEST(Prompts, SuiteIsThatOfTheReference) {
  const Json run = read_json(std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/reference/reference.json")["run"];
  for (const Task& task : all_tasks()) {
    const PromptRule rule = prompt_rule("suite", task.name);
    const std::string name(task.name);
    EXPECT_EQ(rule.apply("What?"), "What?" + run["suffixes"][name].get<std::string>()) << name;
    EXPECT_EQ(rule.max_new_tokens, run["new_tokens"][name].get<std::int64_t>()) << name;
  }
}

TEST(Prompts, LmmsEval) {
  const PromptRule mme = prompt_rule("lmms-eval", "mme");
  EXPECT_EQ(mme.apply("Is it? Please answer yes or no."), std::string("Is it?") + kShort);
  EXPECT_EQ(mme.apply("Is it?"), std::string("Is it?") + kShort);
  EXPECT_EQ(mme.max_new_tokens, 16);
  EXPECT_EQ(prompt_rule("lmms-eval", "pope").apply("Is it?"), std::string("Is it?") + kShort);
  EXPECT_EQ(prompt_rule("lmms-eval", "pope").max_new_tokens, 128);
}

TEST(Prompts, VlmEvalKit) {
  EXPECT_EQ(prompt_rule("vlmevalkit", "gqa").apply("What?"),
            "What?\nPlease try to answer the question with short words or phrases if possible.");
  EXPECT_EQ(prompt_rule("vlmevalkit", "pope").apply("Is it?"), "Is it? Please answer yes or no.");
  EXPECT_EQ(prompt_rule("vlmevalkit", "mme").apply("Is it? Please answer yes or no."),
            "Is it? Please answer yes or no.");
}

TEST(Prompts, HashTellsRulesApart) {
  EXPECT_EQ(prompt_rule("suite", "vqav2").hash(), prompt_rule("lmms-eval", "gqa").hash());  // they ask the same
  std::set<std::string> hashes;
  for (const std::string_view preset : kPromptPresets) hashes.insert(prompt_rule(preset, "pope").hash());
  EXPECT_EQ(hashes.size(), 3u);
  EXPECT_THROW(prompt_rule("other", "pope"), Error);
  EXPECT_THROW(prompt_rule("suite", "a task that does not exist"), Error);
}

}  // namespace
}  // namespace halftone
