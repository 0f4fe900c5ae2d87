#pragma once
// Text operations as Python's str has them, because the official scorers are Python programs. UTF-8 in and out; bytes
// that are not UTF-8 are kept as they are.

#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// One code point each; a byte that is not UTF-8 becomes 0xDC00 + byte, as Python's "surrogateescape".
std::u32string to_code_points(std::string_view text);
std::string to_utf8(std::u32string_view text);

bool is_python_space(char32_t c);  // str.isspace()
bool is_python_digit(char32_t c);  // \d of a str pattern: category Nd

std::string_view python_strip(std::string_view text);   // str.strip()
std::u32string python_lower(std::u32string_view text);  // str.lower(), but a final capital sigma becomes a plain one
std::vector<std::u32string> python_split(std::u32string_view text);  // str.split()

}  // namespace halftone
