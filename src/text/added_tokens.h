#pragma once
// Added tokens: strings that are found in the text before anything else and have an id of their own.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/bpe.h"
#include "text/normalizer.h"

namespace halftone {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool special = false;      // left out by decode()
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = false;   // looked for in the normalized text
};

// The array "added_tokens". A token that the vocabulary has too must have its id there; ids are not shared.
// Throws Error("[source] field 'added_tokens[3].id': ...").
std::vector<AddedToken> read_added_tokens(const Json& root, const Vocabulary& vocabulary, std::string_view source);

// Finds added tokens in text: the leftmost, of these the longest, as tokenizers' AddedVocabulary.
// Immutable; safe to share between threads.
class AddedTokenFinder {
 public:
  // The tokens whose flag `normalized` is as given. Those of normalized text are themselves normalized.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized, const Normalizer& normalizer);

  // Calls piece(text, id) for each part of the valid UTF-8 text in order: an added token with its id, or text between.
  void for_each_piece(std::string_view text,
                      const std::function<void(std::string_view, std::optional<TokenId>)>& piece) const;

 private:
  struct Match {
    const AddedToken* token;
    std::size_t length;
  };
  void insert(std::string_view content, std::int32_t token);
  std::optional<Match> longest_at(std::string_view text, std::size_t begin) const;

  // A trie of bytes; node 0 is its root.
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::uint64_t, std::int32_t> children_;  // node << 8 | byte
  std::vector<std::int32_t> token_of_;                        // of each node; -1: none ends there
  std::array<bool, 256> begins_{};                            // some token begins with this byte
};

}  // namespace halftone
