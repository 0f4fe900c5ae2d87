#pragma once
// From logits to the next token.

#include <cstdint>
#include <span>

#include "base/random.h"
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
  bool greedy() const { return options_.temperature == 0; }
  // Greedy: the largest logit, the smallest id among equals. Otherwise from softmax(logits / temperature), cut to the
  // top_k largest, then to the smallest set whose probability reaches top_p. Throws Error when a logit is NaN or
  // infinite.
  Choice choose(std::span<const float> logits);

 private:
  TokenId draw(std::span<const float> logits);

  SamplingOptions options_;
  Random random_;
};

}  // namespace halftone
