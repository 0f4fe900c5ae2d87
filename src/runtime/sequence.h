#pragma once
// The books of one sequence of a session: what its cache holds.

#include <string>
#include <vector>

#include "runtime/engine_state.h"

namespace halftone {

class Sequence {
 public:
  // Tokens of `prompt` that the cache holds already, at most `limit`. A picture counts only with its content.
  std::int64_t shared_prefix(const PreparedPrompt& prompt, std::int64_t limit) const;
  // Holds the first `length` tokens of `donor` (perhaps itself), whatever it held.
  void keep_prefix(const Sequence& donor, std::int64_t length);
  // Notes that the rest of `prompt` was read, or that a token was decoded.
  void extend(const PreparedPrompt& prompt);
  void push(TokenId token) { tokens_.push_back(token); }

 private:
  struct HeldPicture {
    std::string key;
    std::int64_t begin = 0;
  };

  std::vector<TokenId> tokens_;
  std::vector<HeldPicture> pictures_;
};

}  // namespace halftone
