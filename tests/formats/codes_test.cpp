// Every code of every element format, then ties, overflow, NaN, zero and subnormals.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/e5m2.h"
#include "formats/f16.h"
#include "formats/integer.h"

namespace halftone {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The value by the definition, in double: (-1)^s 2^(e - bias) (1 + m / 2^M), or the subnormal form.
double defined_value(unsigned code, int exponent_bits, int mantissa_bits, int bias) {
  const unsigned e = (code >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const unsigned m = code & ((1u << mantissa_bits) - 1);
  const double fraction = m / std::ldexp(1.0, mantissa_bits);
  const double magnitude =
      e == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, static_cast<int>(e) - bias);
  return (code >> (exponent_bits + mantissa_bits)) & 1 ? -magnitude : magnitude;
}

// Checks decode against the definition, encode as its inverse, and the rounding between neighbours: below the midpoint
// down, above it up, on it to the even code. `finite` positive codes 0 .. finite - 1 are finite.
template <typename Code, typename Decode, typename Encode>
void check_format(int e, int m, int bias, unsigned finite, Decode decode, Encode encode) {
  const unsigned sign = 1u << (e + m);
  for (unsigned code = 0; code < finite; ++code) {
    const float value = decode(static_cast<Code>(code));
    ASSERT_EQ(value, defined_value(code, e, m, bias)) << code;
    ASSERT_EQ(decode(static_cast<Code>(code | sign)), -value) << code;
    ASSERT_EQ(encode(value), code);
    if (code > 0) {
      ASSERT_EQ(encode(-value), code | sign);
    }
    if (code + 1 == finite) break;
    const float next = decode(static_cast<Code>(code + 1));
    const float middle = value + (next - value) / 2;
    ASSERT_EQ(encode(middle), code % 2 == 0 ? code : code + 1) << "tie after " << code;
    ASSERT_EQ(encode(std::nextafter(middle, 0.0f)), code);
    ASSERT_EQ(encode(std::nextafter(middle, kInf)), code + 1);
  }
}

TEST(E4M3, AllCodes) {
  check_format<std::uint8_t>(4, 3, 7, 0x7f, e4m3::decode, e4m3::encode);
  EXPECT_TRUE(std::isnan(e4m3::decode(0x7f)) && std::isnan(e4m3::decode(0xff)));
  EXPECT_EQ(e4m3::encode(-0.0f), 0x80);
  EXPECT_EQ(e4m3::encode(464.0f), 0x7e);
  EXPECT_EQ(e4m3::encode(464.1f), 0x7f);
  EXPECT_EQ(e4m3::encode(-kInf), 0xff);
  EXPECT_EQ(e4m3::encode(NAN) & 0x7f, 0x7f);
  EXPECT_EQ(e4m3::encode_saturated(kInf), 0x7e);
  EXPECT_EQ(e4m3::encode_saturated(-1e9f), 0xfe);
  EXPECT_EQ(e4m3::encode_saturated(NAN) & 0x7f, 0x7f);
}

TEST(E5M2, AllCodes) {
  check_format<std::uint8_t>(5, 2, 15, 0x7c, e5m2::decode, e5m2::encode);
  EXPECT_EQ(e5m2::decode(0x7c), kInf);
  EXPECT_TRUE(std::isnan(e5m2::decode(0x7d)));
  EXPECT_EQ(e5m2::encode(-61440.0f), 0xfc);
  EXPECT_EQ(e5m2::encode(kInf), 0x7c);
  EXPECT_EQ(e5m2::encode(NAN), 0x7f);
}

TEST(E2M1, AllCodes) {
  check_format<std::uint8_t>(2, 1, 1, 8, e2m1::decode, e2m1::encode);
  EXPECT_EQ(e2m1::encode(-0.1f), 8);
  EXPECT_EQ(e2m1::encode(-0.0f), 0);
  EXPECT_EQ(e2m1::encode(1e30f), 7);
  EXPECT_EQ(e2m1::encode(-kInf), 15);
}

TEST(F16, AllCodes) {
  check_format<std::uint16_t>(5, 10, 15, 0x7c00, f16::decode, f16::encode);
  EXPECT_EQ(f16::decode(0xfc00), -kInf);
  EXPECT_TRUE(std::isnan(f16::decode(0x7c01)));
  EXPECT_EQ(f16::encode(65520.0f), 0x7c00);
  EXPECT_EQ(f16::encode(65519.9f), 0x7bff);
}

TEST(BF16, AllCodes) {
  for (unsigned code = 0; code < 0x10000; ++code) {
    const float value = bf16::decode(static_cast<std::uint16_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16::round(value)));
    } else {
      ASSERT_EQ(bf16::encode(value), code);
    }
  }
  EXPECT_EQ(bf16::encode(0x1.01p0f), 0x3f80);  // ties go to the even code
  EXPECT_EQ(bf16::encode(0x1.03p0f), 0x3f82);
  EXPECT_EQ(bf16::encode(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Integer, RoundsToEvenAndClamps) {
  EXPECT_EQ(integer::encode(2.5f, -128, 127), 2);
  EXPECT_EQ(integer::encode(3.5f, -128, 127), 4);
  EXPECT_EQ(integer::encode(-2.5f, -128, 127), -2);
  EXPECT_EQ(integer::encode(127.5f, -128, 127), 127);
  EXPECT_EQ(integer::encode(-200.0f, -128, 127), -128);
  EXPECT_EQ(integer::encode(-kInf, -8, 7), -8);
  for (int code = -8; code < 8; ++code) EXPECT_EQ(integer::decode_int4(static_cast<std::uint8_t>(code & 0xf)), code);
}

}  // namespace
}  // namespace halftone
