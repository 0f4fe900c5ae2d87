#pragma once
// The regular expressions of tokenizer.json, written for Oniguruma's Ruby syntax, matched by PCRE2.
//
// The part of the syntax that both read alike is accepted, with these changes of spelling: \s is the property
// White_Space, \w is Alphabetic, Mark, Nd or Pc, and letters, digits and marks newer than the tables of PCRE2 are added
// to the classes that name them (unicode_additions.h). Everything else gives an Error instead of another meaning.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace halftone {

// The pattern in PCRE2's syntax. Throws Error("[source] ...") for what is not supported.
std::string translate_pattern(std::string_view pattern, std::string_view source);

// Immutable; safe to share between threads.
class Regex {
 public:
  // Throws Error("[source] ...") for a pattern that is not supported or not well-formed.
  Regex(std::string_view pattern, std::string_view source);

  // Calls found(begin, end) for each match of the valid UTF-8 text, from left to right, without overlap. An empty match
  // right behind the last match is skipped. Throws Error when matching takes too many steps.
  void for_each_match(std::string_view text, const std::function<void(std::size_t, std::size_t)>& found) const;

 private:
  std::string source_;
  std::shared_ptr<const void> code_;  // pcre2_code
};

// The pattern that matches `literal` itself.
std::string escape_pattern(std::string_view literal);

}  // namespace halftone
