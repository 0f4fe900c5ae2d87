#include "quant/round_to_nearest.h"

#include <gmock/gmock.h>

#include <limits>

#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::GoldenTensors;

// Made by compressed-tensors, ModelOpt and gguf (make_quant_golden.py).
const GoldenTensors& quant_golden() {
  static const GoldenTensors golden("quant.safetensors");
  return golden;
}

ThreadPool& one_thread() {
  static ThreadPool pool(1);
  return pool;
}

void expect_same_bytes(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  testing_support::expect_same_bytes(got, want, what);
}

std::vector<std::string> split(const std::string& name) {
  std::vector<std::string> parts{""};
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

DType dtype_of(const std::string& tag) {
  return tag == "bf16" ? DType::kBF16 : tag == "f16" ? DType::kF16 : DType::kF32;
}

Layout layout_of(const std::string& tool) {
  return tool == "ct" ? Layout::kCompressedTensors : tool == "mo" ? Layout::kModelOpt : Layout::kGguf;
}

// "outliers.ct.int4_group128.bf16.native": the weight, the tool, the format, the dtype, and what the tool did with it.
void check_case(const GoldenTensors& golden, const std::string& name) {
  SCOPED_TRACE(name);
  ThreadPool pool(2);
  const std::vector<std::string> parts = split(name);
  const std::string mode = parts.size() > 4 ? parts[4] : "";
  const DType dtype = dtype_of(parts[3]);
  const Tensor weight = golden[parts[0] + ".weight"];
  std::optional<float> shared;
  if (mode == "shared") shared = largest_magnitude(weight, name, pool) * 3.7f;
  const Rounding rule(dtype, layout_of(parts[1]), mode == "native" ? dtype : DType::kF32);
  const QuantSpec spec = weight_format_from_name(parts[2], name);
  const QTensor q = round_to_nearest(weight, spec, rule, shared, name, pool);
  expect_same_bytes(q.payload, golden[name + ".payload"], "payload");
  const Tensor scales = golden[name + ".scales"];
  ASSERT_EQ(q.scales.numel(), scales.numel());
  const bool e8m0 = scales.dtype() == DType::kU8;  // the tools store E8M0 so
  const Tensor wanted = scales.reshape(q.scales.shape());
  expect_same_bytes(q.scales, e8m0 ? Tensor::borrow(DType::kF8E8M0, wanted.shape(), wanted.raw(), nullptr) : wanted,
                    "scales");
  if (golden.contains(name + ".zeros")) expect_same_bytes(q.zeros, golden[name + ".zeros"], "zeros");
  if (golden.contains(name + ".global")) {
    EXPECT_EQ(q.global_scale, golden[name + ".global"].data<float>()[0]);
  }
  // a weight that is bf16 may come so
  const Tensor stored = from_f32(weight, DType::kBF16);
  if (std::memcmp(to_f32(stored).raw(), weight.raw(), static_cast<std::size_t>(weight.nbytes())) != 0) return;
  const QTensor same = round_to_nearest(stored, spec, rule, shared, name, pool);
  expect_same_bytes(same.payload, q.payload, "payload of bf16");
  expect_same_bytes(same.scales, q.scales, "scales of bf16");
}

TEST(RoundToNearest, EqualsTheToolsBitForBit) {
  const GoldenTensors& golden = quant_golden();
  const auto names = golden.names(".payload");
  ASSERT_GE(names.size(), 150u);
  for (const std::string& name : names) check_case(golden, name);
}

// AutoAWQ: scale = (7 - -8) / 15 = 1, zero = 8; GPTQ the same for this range. Symmetric: 8 / 7 and 16 / 15.
TEST(RoundToNearest, AwqAndGptqByHand) {
  ThreadPool pool(1);
  const Tensor weight = Tensor::from({-8, 7, 3.5f, 2.5f, 0, -0.5f, 1.5f, -7.6f}, {1, 8});
  const QuantSpec asymmetric{Element::kInt4, Granularity::kGroup, 8, false, true};
  for (const Layout layout : {Layout::kAwq, Layout::kGptq}) {
    const QTensor q = round_to_nearest(weight, asymmetric, Rounding(DType::kBF16, layout), {}, "w", pool);
    EXPECT_EQ(q.scales.dtype(), DType::kF16);
    EXPECT_EQ(scale_at(q, 0, 0), 1.0f);
    EXPECT_EQ(zero_at(q, 0, 0), 0.0f);  // 8 - 8
    const float wanted[] = {-8, 7, 4, 2, 0, 0, 2, -8};
    for (int i = 0; i < 8; ++i) EXPECT_EQ(decode_code(q, 0, i), wanted[i]) << i;
  }
  const QuantSpec symmetric{Element::kInt4, Granularity::kGroup, 8};
  const QTensor awq = round_to_nearest(weight, symmetric, Rounding(DType::kBF16, Layout::kAwq), {}, "w", pool);
  EXPECT_EQ(scale_at(awq, 0, 0), to_f32(from_f32(Tensor::from({8 / 7.0f}, {1}), DType::kF16)).data<float>()[0]);
  const QTensor gptq = round_to_nearest(weight, symmetric, Rounding(DType::kBF16, Layout::kGptq), {}, "w", pool);
  EXPECT_EQ(scale_at(gptq, 0, 0), to_f32(from_f32(Tensor::from({16 / 15.0f}, {1}), DType::kF16)).data<float>()[0]);
  EXPECT_EQ(decode_code(gptq, 0, 0), -8.0f);
  // zeros have a scale above 0 and decode to 0
  const Tensor zeros = Tensor::zeros(DType::kF32, {1, 8});
  for (const Layout layout : {Layout::kAwq, Layout::kGptq}) {
    for (const QuantSpec& spec : {symmetric, asymmetric}) {
      const QTensor q = round_to_nearest(zeros, spec, Rounding(DType::kBF16, layout), {}, "w", pool);
      EXPECT_GT(scale_at(q, 0, 0), 0.0f);
      for (int i = 0; i < 8; ++i) EXPECT_EQ(dequantize(q).data<float>()[i], 0.0f);
    }
  }
}

TEST(RoundToNearest, RefusesWhatAToolDoesNotHave) {
  ThreadPool pool(1);
  const Tensor weight = Tensor::zeros(DType::kF32, {2, 64});
  const auto refuse = [&](const char* format, Layout layout) {
    const QuantSpec spec = weight_format_from_name(format, "test");
    EXPECT_THROW(round_to_nearest(weight, spec, Rounding(DType::kBF16, layout), {}, "w", pool), Error) << format;
  };
  refuse("int4_group32_asym", Layout::kModelOpt);
  refuse("mxfp6_e3m2", Layout::kCompressedTensors);
  refuse("nvfp4_block32", Layout::kCompressedTensors);
  refuse("int4_group64", Layout::kGguf);
  refuse("e4m3_tensor", Layout::kGguf);
}

TEST(RoundToNearest, ScalesMadeForSmallerMagnitudesClip) {
  const Tensor weight = Tensor::from({7, -7, 3, 1, -14, 2, 6, 1}, {2, 4});
  Rounding rule{DType::kF32, Layout::kModelOpt};
  const std::vector<float> limits{3.5f, 7};
  rule.limits = limits;
  const QuantSpec int4{Element::kInt4, Granularity::kGroup, 4};
  const Tensor decoded = dequantize(round_to_nearest(weight, int4, rule, {}, "w", one_thread()));
  // steps of 0.5 and 1, codes from -8 to 7
  const float want[] = {3.5f, -4, 3, 1, -8, 2, 6, 1};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(decoded.data<float>()[i], want[i]) << i;
  const QuantSpec asymmetric{Element::kInt4, Granularity::kGroup, 4, false, true};
  rule.layout = Layout::kCompressedTensors;
  EXPECT_THROW(round_to_nearest(weight, asymmetric, rule, {}, "w", one_thread()), Error);
  EXPECT_THROW(round_to_nearest(weight, {Element::kInt4, Granularity::kGroup, 2}, rule, {}, "w", one_thread()), Error);
  // NVFP4: one limit for the whole weight
  const std::vector<float> one{7};
  Rounding nvfp4{DType::kF32, Layout::kModelOpt};
  nvfp4.limits = one;
  const QTensor q = round_to_nearest(weight, {Element::kE2M1, Granularity::kGroup, 16}, nvfp4, {}, "w", one_thread());
  EXPECT_EQ(q.global_scale, 7.0f / 2688);
}

TEST(RoundToNearest, ScalesOfCompressedTensorsVanishInHalf) {
  ThreadPool pool(1);
  const Tensor zeros = Tensor::zeros(DType::kF32, {1, 32});
  const QuantSpec mxfp4{Element::kE2M1, Granularity::kGroup, 32, true};
  const auto code = [&](DType dtype) {
    const Rounding rule{dtype, Layout::kCompressedTensors};
    return round_to_nearest(zeros, mxfp4, rule, {}, "w", pool).scales.bits<std::uint8_t>()[0];
  };
  EXPECT_EQ(code(DType::kF16), 127);  // 2^-127 is 0 in f16, which becomes 1
  EXPECT_EQ(code(DType::kBF16), 0);
}

TEST(RoundToNearest, DoesNotDependOnThreads) {
  const Tensor weight = quant_golden()["outliers.weight"];
  for (const char* format : {"int8_channel", "int8_channel_asym", "int4_group128", "e4m3_tensor", "e4m3_tile128",
                             "nvfp4_block16", "mxfp4", "mxfp6_e3m2", "mxfp8", "nf4_block64"}) {
    const QuantSpec spec = weight_format_from_name(format, "test");
    ThreadPool one(1), four(4);
    const QTensor a = round_to_nearest(weight, spec, DType::kBF16, {}, "w", one);
    const QTensor b = round_to_nearest(weight, spec, DType::kBF16, {}, "w", four);
    expect_same_bytes(a.payload, b.payload, format);
    expect_same_bytes(a.scales, b.scales, format);
  }
}

TEST(RoundToNearest, TheErrorIsHalfAStep) {
  // |w - q * s| <= s / 2 inside the range; the scale that was rounded down by bf16's 2^-9 clips the largest one by some
  // 127.5 - 127 codes more
  ThreadPool pool(1);
  const Tensor weight = quant_golden()["normal.weight"];
  const QTensor q =
      round_to_nearest(weight, weight_format_from_name("int8_channel", "test"), DType::kBF16, {}, "w", pool);
  const Tensor decoded = dequantize(q);
  for (std::int64_t i = 0; i < weight.numel(); ++i) {
    const float scale = scale_at(q, i / weight.dim(1), 0);
    const float slack = std::abs(decoded.data<float>()[i]) >= 127 * scale ? 127.5f * 0x1p-9f : 0;
    EXPECT_LE(std::abs(decoded.data<float>()[i] - weight.data<float>()[i]), scale * (0.5f + slack + 0x1p-16f)) << i;
  }
}

TEST(RoundToNearest, OddWidths) {
  ThreadPool pool(1);
  const Tensor weight = Tensor::from({1, -2, 3, 4, -5, 6, 7.5f, 0, -7.5f}, {3, 3});
  const QTensor q = round_to_nearest(weight, {Element::kInt4, Granularity::kGroup, 2}, DType::kF32, {}, "w", pool);
  EXPECT_EQ(q.payload.shape(), (Shape{3, 2}));
  EXPECT_EQ(q.scales.shape(), (Shape{3, 2}));
  EXPECT_FLOAT_EQ(dequantize(q).data<float>()[2], 3 * 7 / 7.5f);
}

TEST(RoundToNearest, BadWeightsAreErrorsThatNameTheTensor) {
  ThreadPool pool(2);
  const QuantSpec int8{Element::kInt8, Granularity::kChannel, 0};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Tensor weight = Tensor::from(std::vector<float>(64, 1.0f), {32, 2});
    weight.data<float>()[41] = bad;
    try {
      round_to_nearest(weight, int8, DType::kBF16, {}, "model.layers.3.mlp.up_proj", pool);
      FAIL() << "accepted " << bad;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(),
                  testing::AllOf(testing::HasSubstr("model.layers.3.mlp.up_proj"), testing::HasSubstr("row 20")));
    }
  }
  EXPECT_THROW(round_to_nearest(Tensor::from({1, 2}, {2}), int8, DType::kBF16, {}, "w", pool), Error);
  EXPECT_THROW(round_to_nearest(Tensor::from({1, 2}, {1, 2}), {}, DType::kBF16, {}, "w", pool), Error);
  EXPECT_THROW(round_to_nearest(Tensor::from({1, 2}, {1, 2}), {Element::kE2M1, Granularity::kGroup, 16}, DType::kBF16,
                                1.5f, "w", pool),
               Error);
}

TEST(StaticInput, FollowsTheLayout) {
  using Kind = InputQuant::Kind;
  EXPECT_EQ(static_input(Kind::kStaticInt8, 127.5f, DType::kBF16).scale, 1.0f);
  EXPECT_EQ(static_input(Kind::kStaticInt8, 100.0f, DType::kBF16).scale, 0.78515625f);  // bf16 of 0.784313...
  EXPECT_EQ(static_input(Kind::kStaticInt8, 0.0f, DType::kBF16).scale, 0x1p-7f);
  EXPECT_EQ(static_input(Kind::kStaticE4M3, 896.0f, DType::kBF16).scale, 2.0f);
  EXPECT_EQ(static_input(Kind::kStaticE4M3, 0.0f, DType::kBF16).scale, 1.0f);
  EXPECT_EQ(static_input(Kind::kDynamicNvfp4, 2688.0f, DType::kBF16).scale, 1.0f);
  EXPECT_EQ(static_input(Kind::kDynamicNvfp4, 0.0f, DType::kBF16).scale, 1.0f / 448);
  const Rounding modelopt(DType::kBF16, Layout::kModelOpt), compressed(DType::kBF16, Layout::kCompressedTensors);
  EXPECT_EQ(static_input(Kind::kStaticInt8, 254.0f, modelopt).scale, 2.0f);
  EXPECT_EQ(static_input(Kind::kStaticE4M3, 100.0f, compressed).scale, 0.2236328125f);  // bf16 of 0.2232...
  EXPECT_EQ(static_input(Kind::kDynamicNvfp4, 1.0f, compressed).scale, 2688.0f);
  EXPECT_TRUE(static_input(Kind::kDynamicNvfp4, 1.0f, compressed).inverse);
  EXPECT_EQ(static_input(Kind::kDynamicNvfp4, 1344.0f, compressed).step(), 0.5f);
  // the reciprocal is rounded before it is multiplied: bf16 of 2688 / 40 would be 67
  EXPECT_EQ(static_input(Kind::kDynamicNvfp4, 40.0f, compressed).scale, 67.5f);
  EXPECT_EQ(static_input(Kind::kDynamicNvfp4, 0.0f, compressed).scale, 1.0f);
  EXPECT_EQ(static_input(Kind::kDynamicInt8, 5.0f, DType::kBF16).scale, 1.0f);
  EXPECT_EQ(static_input(Kind::kNone, 5.0f, DType::kBF16), InputQuant{});
}

// ModelOpt keeps the largest magnitude of a row in the weight's dtype and lets it be no less than the least normal number.
TEST(RoundToNearest, ScalesOfFaintRowsEndAtTheDtypesNormalNumbers) {
  const Tensor faint = Tensor::from(std::vector<float>(32, 0x1p-20f), {1, 32});
  ThreadPool pool(1);
  const auto scale = [&](const QuantSpec& spec, DType dtype) {
    return round_to_nearest(faint, spec, Rounding{dtype, Layout::kModelOpt}, {}, "faint", pool).scales.data<float>()[0];
  };
  const QuantSpec int8{Element::kInt8, Granularity::kChannel}, e4m3{Element::kE4M3, Granularity::kChannel};
  EXPECT_EQ(scale(int8, DType::kF16), 0x1p-14f / 127);
  EXPECT_EQ(scale(e4m3, DType::kF16), 0x1p-14f / 448);
  EXPECT_EQ(scale(int8, DType::kBF16), 0x1p-20f / 127);
  EXPECT_EQ(scale(e4m3, DType::kBF16), 0x1p-20f / 448);
}

}  // namespace
}  // namespace halftone
