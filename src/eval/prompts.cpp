#include "eval/prompts.h"

#include <fmt/ranges.h>

#include "base/hash.h"
#include "eval/task.h"

namespace halftone {

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

PromptRule prompt_rule(std::string_view preset, std::string_view task) {
  for (const TaskPrompt& prompt : find_task(task).prompts) {
    if (prompt.preset != preset) continue;
    return {std::string(preset), std::string(task), std::string(prompt.strip), std::string(prompt.suffix),
            prompt.max_new_tokens};
  }
  fail("prompts", "expected one of {}, found '{}'", fmt::join(kPromptPresets, ", "), preset);
}

}  // namespace halftone
