#include "text/byte_level.h"

#include <cstdint>

#include "text/utf8.h"

namespace halftone {
namespace {

constexpr bool stands_for_itself(std::uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

struct Alphabet {
  std::array<std::string, 256> character;
  std::array<std::int16_t, 0x144> byte_of;  // by code point; -1: none

  Alphabet() {
    byte_of.fill(-1);
    std::uint32_t next = 0x100;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t code_point = stands_for_itself(byte) ? byte : next++;
      append_utf8(code_point, character[byte]);
      byte_of[code_point] = static_cast<std::int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::array<std::string, 256>& byte_level_alphabet() { return alphabet().character; }

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) text += alphabet().character[static_cast<unsigned char>(c)];
  return text;
}

std::optional<std::string> from_byte_level(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Sequence sequence = next_utf8(text, at);
    if (!sequence.valid || sequence.code_point >= alphabet().byte_of.size()) return std::nullopt;
    const std::int16_t byte = alphabet().byte_of[sequence.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += sequence.length;
  }
  return bytes;
}

}  // namespace halftone
