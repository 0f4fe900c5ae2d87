// Every code of every element format, then ties, overflow, NaN, zero and subnormals.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e2m3.h"
#include "formats/e3m2.h"
#include "formats/e4m3.h"
#include "formats/e5m2.h"
#include "formats/e8m0.h"
#include "formats/f16.h"
#include "formats/integer.h"
#include "formats/mx.h"
#include "formats/nf4.h"

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

TEST(E3M2, AllCodes) {
  check_format<std::uint8_t>(3, 2, 3, 32, e3m2::decode, e3m2::encode);
  EXPECT_EQ(e3m2::encode(1e30f), 0x1f);
  EXPECT_EQ(e3m2::encode(-kInf), 0x3f);
  EXPECT_EQ(e3m2::encode(NAN) & 0x1f, 0x1f);
  EXPECT_EQ(e3m2::encode(-0x1p-140f), 0x20);
}

TEST(E2M3, AllCodes) {
  check_format<std::uint8_t>(2, 3, 1, 32, e2m3::decode, e2m3::encode);
  EXPECT_EQ(e2m3::encode(7.75f), 0x1f);
  EXPECT_EQ(e2m3::encode(-kInf), 0x3f);
  EXPECT_EQ(e2m3::encode(NAN) & 0x1f, 0x1f);
}

// Both 6-bit formats are parts of E4M3: kernels keep their codes as E4M3.
TEST(E3M2, LiesWithinE4M3) {
  for (unsigned code = 0; code < 64; ++code) {
    const auto c = static_cast<std::uint8_t>(code);
    EXPECT_EQ(e4m3::decode(e4m3::encode(e3m2::decode(c))), e3m2::decode(c));
    EXPECT_EQ(e4m3::decode(e4m3::encode(e2m3::decode(c))), e2m3::decode(c));
  }
}

TEST(E8M0, AllCodes) {
  for (unsigned code = 0; code < 255; ++code) {
    const float value = e8m0::decode(static_cast<std::uint8_t>(code));
    ASSERT_EQ(value, std::ldexp(1.0, static_cast<int>(code) - 127));
    ASSERT_EQ(e8m0::encode(value), code);
    ASSERT_EQ(e8m0::encode_exponent(static_cast<int>(code) - 127), code);
  }
  EXPECT_TRUE(std::isnan(e8m0::decode(0xff)));
  EXPECT_EQ(e8m0::encode_exponent(128), 0xfe);
  EXPECT_EQ(e8m0::encode_exponent(-128), 0);
}

TEST(NF4, AllCodes) {
  for (std::uint8_t code = 0; code < 16; ++code) {
    EXPECT_EQ(nf4::encode(nf4::decode(code)), code);
    if (code == 15) break;
    const float middle = (nf4::decode(code) + nf4::decode(code + 1)) / 2;
    EXPECT_EQ(nf4::encode(middle), code);
    EXPECT_EQ(nf4::encode(std::nextafter(middle, 2.0f)), code + 1);
  }
  EXPECT_EQ(nf4::encode(-kInf), 0);
  EXPECT_EQ(nf4::encode(kInf), 15);
  EXPECT_EQ(nf4::encode(NAN), 0);
  EXPECT_EQ(nf4::decode(nf4::kZero), 0.0f);
}

TEST(Mx, ScaleRules) {
  // ModelOpt: nothing is clipped
  EXPECT_EQ(mx::scale_ceil(6.0f, 6.0f), 127);
  EXPECT_EQ(mx::scale_ceil(6.1f, 6.0f), 128);
  EXPECT_EQ(mx::scale_ceil(448.0f, 448.0f), 127);
  EXPECT_EQ(mx::scale_ceil(0.0f, 6.0f), 0);
  EXPECT_EQ(mx::scale_ceil(0x1p-149f, 6.0f), 0);
  EXPECT_EQ(mx::scale_ceil(std::numeric_limits<float>::max(), 1e-3f), 0xfe);
  // log2 of a number 2 ulp above 2^20 rounds to 20 in f32
  EXPECT_EQ(mx::scale_ceil(0x1.000004p20f, 1.0f), 147);
  EXPECT_EQ(mx::scale_ceil(0x1.00001p20f, 1.0f), 148);
  // OCP: up to twice the largest power of two
  EXPECT_EQ(mx::scale_floor(7.99f, 2), 127);
  EXPECT_EQ(mx::scale_floor(8.0f, 2), 128);
  EXPECT_EQ(mx::scale_floor(0x1p-130f, 2), 0);
  // compressed-tensors: up to 1.75 (1.9375 for E2M3) of it
  EXPECT_EQ(mx::scale_rounded(6.99f, 2, 1), 127);
  EXPECT_EQ(mx::scale_rounded(7.0f, 2, 1), 128);
  EXPECT_EQ(mx::scale_rounded(7.74f, 2, 3), 127);
  EXPECT_EQ(mx::scale_rounded(7.75f, 2, 3), 128);
}

// formats.bin: what torch, ml_dtypes and ModelOpt decode and encode (make_formats_golden.py).
class GoldenFormats : public testing::Test {
 protected:
  struct Format {
    std::vector<float> values, samples;
    std::vector<std::uint8_t> codes;
  };

  template <typename T>
  std::vector<T> take(std::size_t count) {
    std::vector<T> values(count);
    std::memcpy(values.data(), bytes_.data() + at_, count * sizeof(T));
    at_ += count * sizeof(T);
    return values;
  }

  Format next(std::string_view name) {
    EXPECT_EQ(std::string_view(bytes_.data() + at_), name);
    at_ += 16;
    const auto counts = take<std::uint32_t>(2);
    Format format;
    format.values = take<float>(counts[0]);
    format.samples = take<float>(counts[1]);
    format.codes = take<std::uint8_t>(counts[1]);
    return format;
  }

  template <typename Decode, typename Encode>
  void check(std::string_view name, Decode decode, Encode encode) {
    const Format format = next(name);
    for (std::size_t code = 0; code < format.values.size(); ++code) {
      const float got = decode(static_cast<std::uint8_t>(code)), wanted = format.values[code];
      EXPECT_TRUE(got == wanted || (std::isnan(got) && std::isnan(wanted))) << name << " " << code;
    }
    for (std::size_t i = 0; i < format.samples.size(); ++i) {
      EXPECT_EQ(encode(format.samples[i]), format.codes[i]) << name << " of " << format.samples[i];
    }
  }

 private:
  std::string bytes_ = read_file(HALFTONE_SOURCE_DIR "/tests/golden/formats.bin");
  std::size_t at_ = 0;
};

TEST_F(GoldenFormats, EveryCodeAndManyNumbers) {
  check("e4m3", e4m3::decode, e4m3::encode_saturated);
  check("e5m2", e5m2::decode, e5m2::encode);
  check("e2m1", e2m1::decode, e2m1::encode);
  check("e2m3", e2m3::decode, e2m3::encode);
  check("e3m2", e3m2::decode, e3m2::encode);
  check("e8m0", e8m0::decode, e8m0::encode);
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
