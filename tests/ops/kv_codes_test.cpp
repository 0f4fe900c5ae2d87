// Codes of a KV cache: every code, at every place of a vector, against the scalar decoders.
#include "ops/kv_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "formats/bf16.h"
#include "formats/kv_int8.h"
#include "tests/ops/targets.h"

namespace halftone {
namespace {

// Bit for bit, but for the bits of NaN.
void expect_same(const std::vector<float>& got, const std::vector<float>& wanted) {
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (std::isnan(wanted[i])) {
      ASSERT_TRUE(std::isnan(got[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(wanted[i])) << i;
    }
  }
}

template <typename Code>
using Decoder = void (*)(const Code* codes, std::int64_t count, float scale, float* y);

// Every code at every place of a vector, with each of the scales.
template <typename Code>
void expect_bits(Decoder<Code> decode, Decoder<Code> reference, const std::vector<float>& scales) {
  for (const float scale : scales) {
    for (std::size_t first = 0; first < 17; ++first) {
      std::vector<Code> codes(300);
      std::iota(codes.begin(), codes.end(), static_cast<Code>(first));
      const auto count = static_cast<std::int64_t>(codes.size() - first);
      std::vector<float> got(codes.size(), -1.0f), wanted = got;
      decode(codes.data() + first, count, scale, got.data());
      reference(codes.data() + first, count, scale, wanted.data());
      expect_same(got, wanted);
    }
  }
}

TEST(KvCodes, E4m3GivesTheBitsOfTheReference) {
  for_each_target([] {
    expect_bits<std::uint8_t>(decode_e4m3, decode_e4m3_reference, {1.0f, 0.0123f, 1e-40f, 3e38f});
  });
}

TEST(KvCodes, Int8GivesTheBitsOfTheReference) {
  for_each_target([] { expect_bits<std::int8_t>(decode_int8, decode_int8_reference, {1.0f, 0.0123f, 1e-40f, 3e36f}); });
}

TEST(KvCodes, Int8IsItsEquation) {
  for (int code = -127; code <= 127; ++code) {
    const auto exact = static_cast<float>(code);
    EXPECT_EQ(kv_int8::decode(static_cast<std::int8_t>(code)), exact);
    EXPECT_EQ(kv_int8::encode(exact), code);
    // a tie goes to the even neighbour, and past the ends there is none
    const int tie = code % 2 == 0 ? code : std::min(code + 1, 127);
    EXPECT_EQ(kv_int8::encode(exact + 0.5f), tie);
    EXPECT_EQ(kv_int8::encode(std::nextafter(exact + 0.5f, -1000.0f)), code);
  }
  EXPECT_EQ(kv_int8::encode(-127.5f), -127);
  EXPECT_EQ(kv_int8::encode(3e38f), 127);
  EXPECT_EQ(kv_int8::encode(-std::numeric_limits<float>::infinity()), -127);
  EXPECT_EQ(kv_int8::encode(std::numeric_limits<float>::quiet_NaN()), kv_int8::kNan);
  EXPECT_TRUE(std::isnan(kv_int8::decode(kv_int8::kNan)));
}

TEST(KvCodes, Bf16IsExact) {
  for_each_target([] {
    std::vector<std::uint16_t> codes(65536);
    std::iota(codes.begin(), codes.end(), std::uint16_t{0});
    for (const std::size_t count : {std::size_t{1}, std::size_t{19}, codes.size()}) {
      std::vector<float> got(count + 1, -1.0f);
      decode_bf16(codes.data(), static_cast<std::int64_t>(count), got.data());
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(bf16::decode(codes[i])));
      }
      ASSERT_EQ(got[count], -1.0f);
    }
  });
}

}  // namespace
}  // namespace halftone
