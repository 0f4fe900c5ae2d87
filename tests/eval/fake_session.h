#pragma once
// A session whose predictions are a function of the tokens alone.

#include <vector>

#include "runtime/engine.h"

namespace halftone {

class FakeSession : public Session {
 public:
  // Row i of the logits that predict a token at position i of the answer or text.
  using Logits = std::function<std::vector<float>(std::size_t index)>;
  explicit FakeSession(Logits logits) : logits_(std::move(logits)) {}

  Generation generate(const Prompt&, const SamplingOptions&, const TextSink&) override { return {}; }
  std::vector<Generation> generate_batch(std::span<const Prompt> prompts, const SamplingOptions&) override {
    return std::vector<Generation>(prompts.size());
  }
  void score(const Prompt&, std::span<const TokenId> answer, const LogitsSink& sink) override {
    for (std::size_t i = 0; i < answer.size(); ++i) sink(i, logits_(i));
  }
  void score_text(std::span<const TokenId> tokens, const LogitsSink& sink) override {
    for (std::size_t i = 1; i < tokens.size(); ++i) sink(i, logits_(i));
  }
  void start_profile() override {}
  std::vector<DeviceOpTime> take_profile() override { return {}; }

 private:
  Logits logits_;
};

}  // namespace halftone
