#pragma once
// The alphabet of byte-level BPE: every byte has a printable character, so that vocabularies can be written as JSON
// strings. Printable Latin-1 bytes stand for themselves; the other 68 are U+0100 .. U+0143 in their order.
// Source: GPT-2 encoder.py bytes_to_unicode; tokenizers pre_tokenizers::byte_level.

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace halftone {

// The character of each byte, in UTF-8.
const std::array<std::string, 256>& byte_level_alphabet();

// The bytes as characters of the alphabet.
std::string to_byte_level(std::string_view bytes);

// The bytes that a text of the alphabet stands for; nullopt when a character is none of it.
std::optional<std::string> from_byte_level(std::string_view text);

}  // namespace halftone
