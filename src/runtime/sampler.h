#pragma once
// From logits to the next token.

#include <cstdint>
#include <span>

#include "ops/token_draw.h"
#include "runtime/engine.h"

namespace halftone {

struct Choice {
  TokenId token = 0;
  float gap = 0;  // between the two largest logits
};

// Draws the tokens of one sequence; the sequence of draws follows from the options' seed alone.
class Sampler {
 public:
  // Throws Error for options out of range.
  explicit Sampler(const SamplingOptions& options);
  // Greedy: the largest logit, the smallest id among equals. Otherwise as ops/token_draw.h has it. Throws Error when a logit
  // is NaN or infinite.
  Choice choose(std::span<const float> logits);

  // For those who draw the next token elsewhere: how; and that they did.
  const TokenDraw& next_draw() const { return draw_; }
  void skip() { draw_ = draw_.next(); }

 private:
  TokenDraw draw_;
};

}  // namespace halftone
