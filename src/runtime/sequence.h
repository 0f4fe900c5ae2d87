#pragma once
// One sequence of a session: what its KV cache holds, and the way from a prompt to the hidden states of its last
// tokens.

#include <memory>
#include <string>
#include <vector>

#include "runtime/engine_state.h"
#include "runtime/kv_storage.h"

namespace halftone {

class Sequence {
 public:
  explicit Sequence(std::shared_ptr<const KvLayout> layout) : cache_(std::move(layout)) {}

  StoredKvCache& cache() { return cache_; }
  // Tokens of `prompt` that the cache holds already, at most `limit`. A picture counts only with its content.
  std::int64_t shared_prefix(const PreparedPrompt& prompt, std::int64_t limit) const;
  // Keeps the first `length` tokens of `donor` (perhaps itself), whatever this sequence held.
  void keep_prefix(const Sequence& donor, std::int64_t length);
  // Runs the tokens of `prompt` after those that the cache holds. Returns their hidden states [tokens, hidden], defined
  // from the prompt's token `first_wanted` on. Times of pictures and prefill are added to `times`.
  Tensor prefill(const EngineState& engine, PreparedPrompt& prompt, std::int64_t first_wanted, RunContext run,
                 StageTimes& times);
  // Notes that a token was decoded into the cache.
  void push(TokenId token) { tokens_.push_back(token); }

 private:
  struct HeldPicture {
    std::string key;
    std::int64_t begin = 0;
  };

  StoredKvCache cache_;
  std::vector<TokenId> tokens_;  // in the cache
  std::vector<HeldPicture> pictures_;
};

}  // namespace halftone
