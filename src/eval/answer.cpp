#include "eval/answer.h"

#include "base/hash.h"
#include "base/timer.h"

namespace halftone {

Prompt make_prompt(const Sample& sample, std::string text) {
  Prompt prompt;
  prompt.messages = {user_message(std::move(text), static_cast<int>(sample.pictures.size()))};
  for (const auto& path : sample.pictures) prompt.pictures.push_back(read_picture_file(path));
  return prompt;
}

std::string picture_hash(const Prompt& prompt) {
  if (prompt.pictures.empty()) return "";
  if (prompt.pictures.size() == 1) return prompt.pictures.front()->hash;
  Sha256 hash;
  for (const auto& picture : prompt.pictures) hash.update(picture->hash);
  return hash.hex();
}

AnswerResult answer_sample(Session& session, const Task& task, const PromptRule& rule, const Sample& sample) {
  const Timer timer;
  const Prompt prompt = make_prompt(sample, rule.apply(sample.question));
  SamplingOptions options;
  options.max_new_tokens = rule.max_new_tokens;
  Generation generation = session.generate(prompt, options);
  AnswerResult result;
  result.id = sample.id;
  result.picture = picture_hash(prompt);
  result.verdict = judge_answer(task, sample, generation.text);
  result.answer = std::move(generation.text);
  result.tokens = std::move(generation.tokens);
  result.smallest_gap = generation.smallest_gap;
  result.stopped = generation.stopped;
  result.seconds = timer.seconds();
  return result;
}

}  // namespace halftone
