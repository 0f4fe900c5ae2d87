#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/byte_level.h"

namespace halftone {
namespace {

// The examples of Unicode 15.0, section 3.9, tables 3-8 to 3-11.
TEST(Utf8, ReplacesMaximalSubparts) {
  EXPECT_EQ(replace_malformed_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(replace_malformed_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(replace_malformed_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB");
  EXPECT_EQ(replace_malformed_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFDA");
}

TEST(Utf8, EveryScalarValueRoundTripsAndNoPrefixIsComplete) {
  for (std::uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    append_utf8(code_point, text);
    const Utf8Sequence whole = next_utf8(text, 0);
    ASSERT_TRUE(whole.valid && whole.length == text.size() && whole.code_point == code_point) << code_point;
    for (std::size_t length = 1; length < text.size(); ++length) {
      const Utf8Sequence part = next_utf8(text.substr(0, length), 0);
      ASSERT_TRUE(part.truncated && !part.valid && part.length == length) << code_point;
    }
  }
}

TEST(ByteLevel, EveryByteRoundTrips) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  const std::string text = to_byte_level(bytes);
  EXPECT_EQ(replace_malformed_utf8(text), text);
  EXPECT_EQ(from_byte_level(text), bytes);
  EXPECT_EQ(to_byte_level(" \n\xAD"), "\u0120\u010A\u0143");
  EXPECT_EQ(from_byte_level("a b"), std::nullopt);
  EXPECT_EQ(from_byte_level("\u0144"), std::nullopt);
}

}  // namespace
}  // namespace halftone
