#include "eval/prompts.h"

#include "base/hash.h"

namespace halftone {

namespace {

constexpr std::string_view kShort = "\nAnswer the question using a single word or phrase.";
constexpr std::string_view kWords = "\nPlease try to answer the question with short words or phrases if possible.";
constexpr std::string_view kYesNo = " Please answer yes or no.";
constexpr std::string_view kPresets[] = {"suite", "lmms-eval", "vlmevalkit"};
constexpr std::int64_t kDefaultNewTokens = 64;

struct Row {
  std::string_view preset, task, strip, suffix;
  std::int64_t max_new_tokens;
};

// POPE's and MME's files hold whole prompts, so that only some presets add to them.
constexpr Row kRows[] = {
    {"suite", "vqav2", "", kShort, 16},
    {"suite", "gqa", "", kShort, 16},
    {"suite", "pope", "", "", 16},
    {"suite", "mme", "", "", 16},
    {"suite", "grounding", "", "", 48},
    {"suite", "llava_bench", "", "", 64},
    {"lmms-eval", "vqav2", "", kShort, 16},
    {"lmms-eval", "gqa", "", kShort, 16},
    {"lmms-eval", "pope", "", kShort, 128},
    {"lmms-eval", "mme", kYesNo, kShort, 16},
    {"lmms-eval", "llava_bench", "", "", 4096},
    {"vlmevalkit", "vqav2", "", kWords, 2048},
    {"vlmevalkit", "gqa", "", kWords, 2048},
    {"vlmevalkit", "pope", "", kYesNo, 2048},
    {"vlmevalkit", "mme", "", "", 2048},
    {"vlmevalkit", "llava_bench", "", kWords, 2048},
};

}  // namespace

std::string PromptRule::apply(std::string_view question) const {
  if (!strip.empty() && question.ends_with(strip)) question.remove_suffix(strip.size());
  return std::string(question) + suffix;
}

std::string PromptRule::hash() const {
  return sha256_hex(Json({{"message", "user: pictures, then text"},
                          {"strip", strip},
                          {"suffix", suffix},
                          {"max_new_tokens", max_new_tokens},
                          {"decoding", "greedy"}})
                        .dump());
}

std::span<const std::string_view> prompt_presets() { return kPresets; }

PromptRule prompt_rule(std::string_view preset, std::string_view task) {
  bool known = false;
  std::string names;
  for (const std::string_view name : kPresets) {
    known = known || name == preset;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  require(known, "prompts", "expected one of {}, found '{}'", names, preset);
  for (const Row& row : kRows) {
    if (row.preset != preset || row.task != task) continue;
    return {std::string(preset), std::string(task), std::string(row.strip), std::string(row.suffix),
            row.max_new_tokens};
  }
  return {std::string(preset), std::string(task), "", "", kDefaultNewTokens};
}

}  // namespace halftone
