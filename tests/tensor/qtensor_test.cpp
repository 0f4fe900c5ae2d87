// Decoding of every element and granularity, and what check_qtensor refuses.
#include "tensor/qtensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace halftone {
namespace {

using testing::HasSubstr;

template <typename T>
Tensor raw(DType dtype, const Shape& shape, const std::vector<T>& values) {
  Tensor tensor(dtype, shape);
  std::copy(values.begin(), values.end(), static_cast<T*>(tensor.raw()));
  return tensor;
}

QTensor make(Element element, Granularity granularity, Shape shape, Tensor payload, Tensor scales,
             std::int64_t group = 0) {
  QTensor q;
  q.spec = {element, granularity, group};
  q.shape = std::move(shape);
  q.payload = std::move(payload);
  q.scales = std::move(scales);
  return q;
}

TEST(QTensor, DecodesInt8PerChannel) {
  const QTensor q =
      make(Element::kInt8, Granularity::kChannel, {2, 3},
           raw<std::int8_t>(DType::kI8, {2, 3}, {-128, 0, 127, 1, -1, 5}), Tensor::from({0.5f, 2.0f}, {2}));
  const Tensor w = dequantize(q);
  EXPECT_THAT(std::vector<float>(w.data<float>(), w.data<float>() + 6), testing::ElementsAre(-64, 0, 63.5, 2, -2, 10));
}

TEST(QTensor, DecodesEveryInt4CodeInGroups) {
  std::vector<std::uint8_t> bytes;
  for (int low = 0; low < 16; low += 2) bytes.push_back(static_cast<std::uint8_t>(low | ((low + 1) << 4)));
  const QTensor q = make(Element::kInt4, Granularity::kGroup, {1, 16}, raw<std::uint8_t>(DType::kU8, {1, 8}, bytes),
                         Tensor::from({1.0f, 0.5f}, {1, 2}), 8);
  const Tensor w = dequantize(q);
  for (int code = 0; code < 16; ++code) {
    const float value = static_cast<float>(code < 8 ? code : code - 16);
    EXPECT_EQ(w.data<float>()[code], value * (code < 8 ? 1.0f : 0.5f)) << code;
  }
}

TEST(QTensor, DecodesEveryE2M1CodeWithTwoLevelsOfScales) {
  std::vector<std::uint8_t> bytes;
  for (int low = 0; low < 16; low += 2) bytes.push_back(static_cast<std::uint8_t>(low | ((low + 1) << 4)));
  QTensor q = make(Element::kE2M1, Granularity::kGroup, {1, 16}, raw<std::uint8_t>(DType::kU8, {1, 8}, bytes),
                   raw<std::uint8_t>(DType::kF8E4M3, {1, 1}, {0x40}), 16);
  q.global_scale = 0.25f;
  const float magnitudes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const Tensor w = dequantize(q);
  for (int code = 0; code < 16; ++code) {
    const float value = code < 8 ? magnitudes[code] : -magnitudes[code - 8];
    EXPECT_EQ(w.data<float>()[code], value * (2.0f * 0.25f)) << code;  // 0x40 is 2
  }
}

TEST(QTensor, DecodesOddColumnsRowByRow) {
  const QTensor q = make(Element::kInt4, Granularity::kTensor, {2, 3},
                         raw<std::uint8_t>(DType::kU8, {2, 2}, {0x21, 0x03, 0x54, 0x06}), Tensor::from({1.0f}, {1}));
  const Tensor w = dequantize(q);
  EXPECT_THAT(std::vector<float>(w.data<float>(), w.data<float>() + 6), testing::ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(QTensor, DecodesE4M3PerTensorWithBf16Scales) {
  const QTensor q =
      make(Element::kE4M3, Granularity::kTensor, {1, 3}, raw<std::uint8_t>(DType::kF8E4M3, {1, 3}, {0x7e, 0x38, 0x81}),
           raw<std::uint16_t>(DType::kBF16, {1}, {0x3f00}));
  const Tensor w = dequantize(q);
  EXPECT_THAT(std::vector<float>(w.data<float>(), w.data<float>() + 3), testing::ElementsAre(224, 0.5f, -0x1p-10f));
}

TEST(QTensor, WrapsUnquantizedMatrices) {
  const Tensor f32 = Tensor::from({1, -2, 3.5f, 0}, {2, 2});
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const QTensor q = wrap_unquantized(from_f32(f32, dtype));
    EXPECT_EQ(q.spec.granularity, Granularity::kNone);
    const Tensor w = dequantize(q);
    EXPECT_THAT(std::vector<float>(w.data<float>(), w.data<float>() + 4), testing::ElementsAre(1, -2, 3.5f, 0));
  }
  EXPECT_THROW(wrap_unquantized(Tensor::from({1, 2}, {2})), Error);
  EXPECT_THROW(wrap_unquantized(Tensor::zeros(DType::kI8, {2, 2})), Error);
}

TEST(QTensor, ScalesAreMultipliedBeforeTheCode) {
  // 3 * (0.1f * 0.1f) and (3 * 0.1f) * 0.1f differ in the last bit
  QTensor q = make(Element::kInt8, Granularity::kTensor, {1, 1}, raw<std::int8_t>(DType::kI8, {1, 1}, {3}),
                   Tensor::from({0.1f}, {1}));
  q.global_scale = 0.1f;
  const float product = 0.1f * 0.1f;
  EXPECT_EQ(dequantize(q).data<float>()[0], 3.0f * product);
}

TEST(QTensor, SubtractsZerosAndAddsOffsets) {
  QTensor q = make(Element::kInt4, Granularity::kGroup, {1, 4}, raw<std::uint8_t>(DType::kU8, {1, 2}, {0x8f, 0x17}),
                   Tensor::from({0.5f, 2.0f}, {1, 2}), 2);
  q.spec.asymmetric = true;
  q.zeros = raw<std::int8_t>(DType::kI8, {1, 2}, {-8, 7});
  Tensor w = dequantize(q);
  EXPECT_THAT(std::vector<float>(w.data<float>(), w.data<float>() + 4), testing::ElementsAre(3.5f, 0, 0, -12));
  q.offsets = Tensor::from({1.0f, -1.0f}, {1, 2});
  w = dequantize(q);
  EXPECT_THAT(std::vector<float>(w.data<float>(), w.data<float>() + 4), testing::ElementsAre(4.5f, 1, -1, -13));
  EXPECT_EQ(zero_at(q, 0, 3), 7);
  EXPECT_EQ(offset_at(q, 0, 1), 1.0f);
}

TEST(QTensor, TilesShareScalesInBothDirections) {
  QTensor q = make(Element::kE4M3, Granularity::kTile, {130, 129}, Tensor(DType::kF8E4M3, {130, 129}),
                   Tensor::from({1, 2, 3, 4}, {2, 2}), 128);
  std::fill_n(q.payload.bits<std::uint8_t>(), q.payload.numel(), std::uint8_t{0x38});  // 1
  const Tensor w = dequantize(q);
  const auto at = [&](std::int64_t r, std::int64_t c) { return w.data<float>()[r * 129 + c]; };
  EXPECT_EQ(at(0, 0), 1);
  EXPECT_EQ(at(127, 128), 2);
  EXPECT_EQ(at(128, 127), 3);
  EXPECT_EQ(at(129, 128), 4);
}

TEST(QTensor, DecodesTheElementsOfMxAndNf4) {
  const Tensor powers = raw<std::uint8_t>(DType::kF8E8M0, {1, 1}, {128});  // 2
  const auto decode = [&](Element element, Tensor payload) {
    QTensor q = make(element, Granularity::kGroup, {1, 2}, std::move(payload), powers, 32);
    q.spec.mx = true;
    const Tensor w = dequantize(q);
    return std::vector<float>(w.data<float>(), w.data<float>() + 2);
  };
  EXPECT_THAT(decode(Element::kE3M2, raw<std::uint8_t>(DType::kU8, {1, 2}, {0x1f, 0x21})),
              testing::ElementsAre(56, -0.125f));
  EXPECT_THAT(decode(Element::kE2M3, raw<std::uint8_t>(DType::kU8, {1, 2}, {0x1f, 0x21})),
              testing::ElementsAre(15, -0.25f));
  EXPECT_THAT(decode(Element::kE5M2, raw<std::uint8_t>(DType::kF8E5M2, {1, 2}, {0x7b, 0x81})),
              testing::ElementsAre(114688, -0x1p-15f));
  EXPECT_THAT(decode(Element::kNF4, raw<std::uint8_t>(DType::kU8, {1, 1}, {0xf1})),
              testing::ElementsAre(2 * -0.6961928009986877f, 2));
}

struct Refusal {
  const char* name;
  std::function<void(QTensor&)> damage;
  const char* message;
};

const Refusal kRefusals[] = {
    {"NotAMatrix",
     [](QTensor& q) {
       q.shape = {2, 4, 1};
     },
     "expected a matrix, got shape [2, 4, 1]"},
    {"PayloadType",
     [](QTensor& q) {
       q.payload = Tensor::zeros(DType::kI8, {2, 2});
     },
     "expected a payload of U8 [2, 2], got I8"},
    {"PayloadShape",
     [](QTensor& q) {
       q.payload = Tensor::zeros(DType::kU8, {2, 4});
     },
     "got U8 [2, 4]"},
    {"NoGroup", [](QTensor& q) { q.spec.group = 0; }, "expected a group of 1 or more, got 0"},
    {"NoScales", [](QTensor& q) { q.scales = {}; }, "expected scales of shape [2, 2], got none"},
    {"ScalesShape", [](QTensor& q) { q.scales = Tensor::zeros(DType::kF32, {2}); },
     "expected scales of shape [2, 2], got [2]"},
    {"ScalesType",
     [](QTensor& q) {
       q.scales = Tensor::zeros(DType::kI32, {2, 2});
     },
     "got I32"},
    {"ScalesOfPlain",
     [](QTensor& q) {
       q.spec = {};
       q.payload = Tensor::zeros(DType::kBF16, {2, 4});
     },
     "expected no scales for bf16"},
    {"ZerosOfSymmetric",
     [](QTensor& q) {
       q.zeros = Tensor::zeros(DType::kI8, {2, 2});
     },
     "expected neither zeros nor offsets for int4 group 2, got zeros"},
    {"NoZeros", [](QTensor& q) { q.spec.asymmetric = true; }, "expected zeros or offsets for int4 group 2 asymmetric"},
    {"ZerosShape",
     [](QTensor& q) {
       q.spec.asymmetric = true;
       q.zeros = Tensor::zeros(DType::kI8, {2});
     },
     "expected zeros of I8 [2, 2], got I8 [2]"},
    {"OffsetsType",
     [](QTensor& q) {
       q.spec.asymmetric = true;
       q.offsets = Tensor::zeros(DType::kBF16, {2, 2});
     },
     "expected offsets of F32 [2, 2], got BF16 [2, 2]"},
    {"MxScales", [](QTensor& q) { q.spec.mx = true; }, "expected scales of F8_E8M0, got F32"},
    {"UnscaledCodes",
     [](QTensor& q) {
       q.spec = {Element::kInt4, Granularity::kNone, 0};
       q.scales = {};
     },
     "expected scales for int4"},
};

class QTensorRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(QTensorRefusal, NamesTheRule) {
  QTensor q = make(Element::kInt4, Granularity::kGroup, {2, 4}, Tensor::zeros(DType::kU8, {2, 2}),
                   Tensor::zeros(DType::kF32, {2, 2}), 2);
  check_qtensor(q, "w");
  GetParam().damage(q);
  try {
    check_qtensor(q, "w");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("[w]"));
    EXPECT_THAT(e.what(), HasSubstr(GetParam().message));
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, QTensorRefusal, testing::ValuesIn(kRefusals),
                         [](const auto& info) { return info.param.name; });

TEST(QTensor, NamesFormats) {
  EXPECT_EQ(to_string(QuantSpec{Element::kInt4, Granularity::kGroup, 128}), "int4 group 128");
  EXPECT_EQ(to_string(QuantSpec{Element::kE4M3, Granularity::kTensor, 0}), "e4m3 per tensor");
  EXPECT_EQ(to_string(QuantSpec{Element::kInt8, Granularity::kChannel, 0}), "int8 per channel");
  EXPECT_EQ(to_string(QuantSpec{Element::kInt4, Granularity::kGroup, 64, false, true}), "int4 group 64 asymmetric");
  EXPECT_EQ(to_string(QuantSpec{Element::kE2M1, Granularity::kGroup, 32, true}), "mx e2m1 group 32");
  EXPECT_EQ(to_string(QuantSpec{Element::kE4M3, Granularity::kTile, 128}), "e4m3 tiles of 128");
  EXPECT_EQ(to_string(QuantSpec{}), "bf16");
}

}  // namespace
}  // namespace halftone
