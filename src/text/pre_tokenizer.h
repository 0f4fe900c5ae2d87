#pragma once
// The pre-tokenizer of tokenizer.json: where text is cut into the words that BPE encodes one by one.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace halftone {

class PreTokenizer {
 public:
  // ByteLevel, or a Sequence of Split and Digits that ends with ByteLevel. Throws Error("[source] field '...': ...").
  static PreTokenizer from_json(const Json& json, std::string_view source);

  // The words of a valid UTF-8 text, as bytes.
  std::vector<std::string> split(std::string_view text) const;

 private:
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
  struct Step {
    std::optional<Regex> regex;  // absent: nothing is cut
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;            // what does not match counts as a match
    bool add_prefix_space = false;  // before cutting
  };
  struct Piece {
    std::size_t begin;
    std::size_t end;
    bool match;
  };

  void add_part(const Json& json, std::string_view field, std::string_view source);
  void add_split(const Json& json, std::string_view field, std::string_view source);
  static std::vector<Piece> find_pieces(const Step& step, std::string_view text);
  static std::vector<Piece> merge_pieces(Behavior behavior, const std::vector<Piece>& pieces);

  std::vector<Step> steps_;
  bool complete_ = false;  // ByteLevel was the last part
};

}  // namespace halftone
