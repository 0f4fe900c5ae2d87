#pragma once
// Prompt presets: what stands around a task's question, and how long the answer may be.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/sample.h"
#include "runtime/engine.h"

namespace halftone {

struct PromptRule {
  std::string preset, task;
  std::string strip;   // removed from the end of a question that has it
  std::string suffix;  // then appended
  std::int64_t max_new_tokens = 0;

  std::string apply(std::string_view question) const;
  // SHA-256 of everything that shapes the prompt and its answer's length: equal for rules that ask the same.
  std::string hash() const;
};

// The demo's reference answers were made with "suite". What each does is said by each task (the table in task.cpp).
// Sources: demo/make/reference_eval.py; lmms-eval tasks/{vqav2,pope,mme,gqa}; VLMEvalKit
// vlmeval/vlm/qwen2_vl/{prompt,model}.py.
inline constexpr std::string_view kPromptPresets[] = {"suite", "lmms-eval", "vlmevalkit"};

// Throws Error naming the presets, or the tasks, that there are.
PromptRule prompt_rule(std::string_view preset, std::string_view task);

// One user message: the sample's pictures, then `text`. Reads the pictures' files.
Prompt make_prompt(const Sample& sample, std::string text);

// SHA-256 of the pictures' contents; empty without pictures, the file's own for one.
std::string picture_hash(const Prompt& prompt);

}  // namespace halftone
