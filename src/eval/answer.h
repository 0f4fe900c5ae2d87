#pragma once
// Answers of an engine to a task's samples.

#include <cstdint>
#include <string>
#include <vector>

#include "eval/prompts.h"
#include "eval/task.h"
#include "runtime/engine.h"

namespace halftone {

// All but `seconds` depends on the engine, the sample and the rule alone.
struct AnswerResult {
  std::string id;
  std::string picture;  // SHA-256 of the picture's file
  std::string answer;   // as generated, special tokens removed
  std::vector<TokenId> tokens;
  Verdict verdict;
  float smallest_gap = 0;  // between the two largest logits on the way: near 0, another machine may answer otherwise
  bool stopped = false;    // by a stop token, not by length
  double seconds = 0;
};

// Asks greedily and judges.
AnswerResult answer_sample(Session& session, const Task& task, const PromptRule& rule, const Sample& sample);

}  // namespace halftone
