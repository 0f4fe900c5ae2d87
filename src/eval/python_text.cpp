#include "eval/python_text.h"

#include <utf8proc.h>

namespace halftone {

namespace {

constexpr char32_t kEscape = 0xDC00;

// The code point at the front of `text` and its length in bytes.
std::pair<char32_t, std::size_t> first_code_point(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  if (length <= 0) return {kEscape + static_cast<unsigned char>(text.front()), 1};
  return {static_cast<char32_t>(code_point), static_cast<std::size_t>(length)};
}

std::size_t last_length(std::string_view text) {
  std::size_t length = 1;
  while (length < 4 && length < text.size() &&
         (static_cast<unsigned char>(text[text.size() - length]) & 0xc0) == 0x80) {
    ++length;
  }
  return length;
}

}  // namespace

std::u32string to_code_points(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    const auto [code_point, length] = first_code_point(text);
    out.push_back(code_point);
    text.remove_prefix(length);
  }
  return out;
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) {
    if (c >= kEscape && c < kEscape + 256) {
      out.push_back(static_cast<char>(c - kEscape));
      continue;
    }
    utf8proc_uint8_t bytes[4];
    const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
  }
  return out;
}

bool is_python_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_python_digit(char32_t c) {
  return (c >= '0' && c <= '9') ||
         (c > 127 && utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND);
}

std::string_view python_strip(std::string_view text) {
  while (!text.empty()) {
    const auto [code_point, length] = first_code_point(text);
    if (!is_python_space(code_point)) break;
    text.remove_prefix(length);
  }
  while (!text.empty()) {
    const std::size_t length = last_length(text);
    const auto [code_point, found] = first_code_point(text.substr(text.size() - length));
    if (found != length || !is_python_space(code_point)) break;
    text.remove_suffix(length);
  }
  return text;
}

std::u32string python_lower(std::u32string_view text) {
  std::u32string out;
  for (const char32_t c : text) {
    if (c == 0x130) {
      out += U"i\u0307";  // the one capital whose lower case is two code points
    } else if (c >= kEscape && c < kEscape + 256) {
      out.push_back(c);
    } else {
      out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

std::vector<std::u32string> python_split(std::u32string_view text) {
  std::vector<std::u32string> words;
  std::u32string word;
  for (const char32_t c : text) {
    if (!is_python_space(c)) {
      word.push_back(c);
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

}  // namespace halftone
