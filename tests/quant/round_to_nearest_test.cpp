#include "quant/round_to_nearest.h"

#include <gmock/gmock.h>

#include <cstring>
#include <limits>

#include "base/file.h"
#include "hf/safetensors.h"

namespace halftone {
namespace {

// tests/golden/quant.safetensors, made by compressed-tensors and ModelOpt (make_quant_golden.py).
class Golden {
 public:
  Golden()
      : file_(HALFTONE_SOURCE_DIR "/tests/golden/quant.safetensors"),
        header_(parse_safetensors_header(file_.bytes(), "quant.safetensors")) {}

  std::vector<std::string> names(std::string_view suffix) const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : header_.tensors) {
      if (name.ends_with(suffix)) names.push_back(name.substr(0, name.size() - suffix.size()));
    }
    return names;
  }
  Tensor tensor(const std::string& name) const {
    const SafetensorsEntry& entry = header_.tensors.at(name);
    Tensor copy(entry.dtype, entry.shape);
    std::memcpy(copy.raw(), file_.bytes().data() + header_.data_begin + entry.begin, entry.nbytes());
    return copy;
  }
  bool contains(const std::string& name) const { return header_.tensors.contains(name); }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

void expect_same_bytes(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const auto* a = static_cast<const std::uint8_t*>(got.raw());
  const auto* b = static_cast<const std::uint8_t*>(want.raw());
  for (std::int64_t i = 0; i < want.nbytes(); ++i) ASSERT_EQ(a[i], b[i]) << what << " at byte " << i;
}

// "outliers.int4_group128_bf16": the weight, the format, and what the format's tool did with it.
void check_case(const Golden& golden, const std::string& name) {
  SCOPED_TRACE(name);
  ThreadPool pool(2);
  const std::size_t dot = name.find('.');
  std::string format = name.substr(dot + 1);
  DType scale_dtype = DType::kBF16;
  for (const auto& [tag, dtype] : {std::pair{"_bf16", DType::kBF16}, {"_f16", DType::kF16}, {"_f32", DType::kF32}}) {
    if (!format.ends_with(tag)) continue;
    format.resize(format.size() - std::strlen(tag));
    scale_dtype = dtype;
    break;
  }
  const Tensor weight = golden.tensor(name.substr(0, dot) + ".weight");
  std::optional<float> shared;
  if (format.ends_with("_shared")) {
    format.resize(format.size() - std::strlen("_shared"));
    shared = largest_magnitude(weight, name, pool) * 3.7f;
  }
  const QTensor q = round_to_nearest(weight, weight_format_from_name(format, name), scale_dtype, shared, name, pool);
  expect_same_bytes(q.scales, golden.tensor(name + ".scales"), "scales");
  expect_same_bytes(q.payload, golden.tensor(name + ".payload"), "payload");
  if (golden.contains(name + ".global")) {
    EXPECT_EQ(q.global_scale, golden.tensor(name + ".global").data<float>()[0]);
  }
}

TEST(RoundToNearest, EqualsTheToolsBitForBit) {
  const Golden golden;
  const auto names = golden.names(".payload");
  ASSERT_GE(names.size(), 80u);
  for (const std::string& name : names) check_case(golden, name);
}

TEST(RoundToNearest, DoesNotDependOnThreads) {
  const Tensor weight = Golden().tensor("outliers.weight");
  for (const char* format : {"int8_channel", "int4_group128", "e4m3_tensor", "nvfp4_block16"}) {
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
  const Tensor weight = Golden().tensor("normal.weight");
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
  EXPECT_EQ(static_input(Kind::kNone, 5.0f, DType::kBF16), InputQuant{});
}

}  // namespace
}  // namespace halftone
