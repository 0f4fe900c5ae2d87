#include "text/utf8.h"

#include <algorithm>

namespace halftone {
namespace {

// What the first byte says: how many bytes follow, and the range of the second one (Unicode 15, table 3-7).
struct Lead {
  int following = -1;  // -1: no character begins with this byte
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {.following = 0};
  if (byte < 0xC2) return {};
  if (byte < 0xE0) return {.following = 1};
  if (byte == 0xE0) return {.following = 2, .low = 0xA0};
  if (byte == 0xED) return {.following = 2, .high = 0x9F};
  if (byte < 0xF0) return {.following = 2};
  if (byte == 0xF0) return {.following = 3, .low = 0x90};
  if (byte < 0xF4) return {.following = 3};
  if (byte == 0xF4) return {.following = 3, .high = 0x8F};
  return {};
}

}  // namespace

Utf8Sequence next_utf8(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  Lead lead = lead_of(first);
  if (lead.following < 0) return {.length = 1};
  if (lead.following == 0) return {.length = 1, .valid = true, .code_point = first};
  std::uint32_t code_point = first & (0x3Fu >> lead.following);
  for (int i = 1; i <= lead.following; ++i) {
    const std::size_t length = static_cast<std::size_t>(i);
    if (at + length >= text.size()) return {.length = length, .truncated = true};
    const auto byte = static_cast<unsigned char>(text[at + length]);
    if (byte < lead.low || byte > lead.high) return {.length = length};
    code_point = code_point << 6 | (byte & 0x3Fu);
    lead.low = 0x80;
    lead.high = 0xBF;
  }
  return {.length = static_cast<std::size_t>(lead.following) + 1, .valid = true, .code_point = code_point};
}

void append_utf8(std::uint32_t code_point, std::string& text) {
  const auto append = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    append(code_point);
  } else if (code_point < 0x800) {
    append(0xC0 | code_point >> 6);
    append(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    append(0xE0 | code_point >> 12);
    append(0x80 | (code_point >> 6 & 0x3F));
    append(0x80 | (code_point & 0x3F));
  } else {
    append(0xF0 | code_point >> 18);
    append(0x80 | (code_point >> 12 & 0x3F));
    append(0x80 | (code_point >> 6 & 0x3F));
    append(0x80 | (code_point & 0x3F));
  }
}

std::string replace_malformed_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const Utf8Sequence sequence = next_utf8(bytes, at);
    text += sequence.valid ? bytes.substr(at, sequence.length) : kReplacementCharacter;
    at += sequence.length;
  }
  return text;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace halftone
