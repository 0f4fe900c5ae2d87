#pragma once
// UTF-8 one sequence at a time, with the replacement rule of Unicode 3.9 ("maximal subpart"), which Python's
// bytes.decode("utf-8", "replace") and Rust's String::from_utf8_lossy follow.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace halftone {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Sequence {
  std::size_t length = 0;        // bytes; of a malformed sequence the part that one U+FFFD replaces
  bool valid = false;            // a whole character
  bool truncated = false;        // malformed only because the text ends
  std::uint32_t code_point = 0;  // when valid
};

// The sequence that begins at text[at], at < text.size().
Utf8Sequence next_utf8(std::string_view text, std::size_t at);

// Appends the code point, which must not be a surrogate, in UTF-8.
void append_utf8(std::uint32_t code_point, std::string& text);

// The text with each malformed sequence replaced by U+FFFD.
std::string replace_malformed_utf8(std::string_view bytes);

bool is_ascii(std::string_view text);

}  // namespace halftone
