#pragma once
// The normalizer of tokenizer.json: what happens to the text before it is split.

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace halftone {

class Normalizer {
 public:
  Normalizer() = default;
  // null, NFC, NFD, NFKC, NFKD, Lowercase, or a Sequence of them. Throws Error("[source] field '<field>...': ...").
  static Normalizer from_json(const Json& json, std::string_view field, std::string_view source);

  // The valid UTF-8 text, normalized. Equal to tokenizers' result, whose tables are those of Unicode 9.
  std::string normalize(std::string_view text) const;

 private:
  enum class Step { kNfc, kNfd, kNfkc, kNfkd, kLowercase };
  static std::string apply(Step step, std::string_view text);

  std::vector<Step> steps_;
};

}  // namespace halftone
