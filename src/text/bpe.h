#pragma once
// Byte-pair encoding of one word, over the byte-level alphabet.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace halftone {

// Token ids above this are refused: tables are indexed by id. The largest vocabularies in use have about 2^18 entries.
inline constexpr TokenId kMaxTokenId = (1 << 22) - 1;

// The integer in [0, kMaxTokenId] that `json` holds. Throws Error naming the field.
TokenId token_id_from_json(const Json& json, std::string_view field, std::string_view source);

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Vocabulary = std::unordered_map<std::string, TokenId, StringHash, std::equal_to<>>;

// Immutable; safe to share between threads.
class Bpe {
 public:
  // The object "model" of tokenizer.json. Throws Error for other types, byte_fallback, dropout and affixes of subwords.
  static Bpe from_json(const Json& model, std::string_view source);

  // Appends the ids of a word, given as its bytes: pairs are merged by rank, then from the left.
  // A byte that the vocabulary lacks becomes the unknown token, or nothing where there is none.
  void encode_word(std::string_view bytes, std::vector<TokenId>& ids) const;

  // Tokens as the file writes them, in the byte-level alphabet.
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    std::int32_t rank;
    TokenId merged;
  };
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  void read_vocabulary(const Json& model, std::string_view source);
  void read_merges(const Json& model, std::string_view source);
  void read_bytes();
  std::vector<TokenId> symbols_of(std::string_view bytes) const;
  const Merge* find_merge(TokenId left, TokenId right) const;

  class Word;

  Vocabulary vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<TokenId, 256> byte_ids_{};  // -1: not in the vocabulary
  std::optional<TokenId> unknown_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace halftone
