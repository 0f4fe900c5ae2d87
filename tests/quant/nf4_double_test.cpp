// tests/golden/nf4.safetensors, made by bitsandbytes (make_nf4_golden.py).
#include "quant/nf4_double.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "formats/dynamic8.h"
#include "formats/nf4.h"
#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::GoldenTensors;

std::vector<std::uint8_t> bytes_of(const Tensor& tensor) {
  const auto* bytes = static_cast<const std::uint8_t*>(tensor.raw());
  return {bytes, bytes + tensor.nbytes()};
}

TEST(Nf4Double, TablesAreThoseOfBitsandbytes) {
  const GoldenTensors golden("nf4.safetensors");
  EXPECT_EQ(golden.values("quant_map"), std::vector<float>(nf4::kLevels, nf4::kLevels + 16));
  EXPECT_EQ(golden.values("nested_quant_map"), std::vector<float>(dynamic8::kValues.begin(), dynamic8::kValues.end()));
}

TEST(Nf4Double, EncodesTheNearestOfAllCodes) {
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(dynamic8::encode(dynamic8::kValues[static_cast<std::size_t>(code)]), code);
  }
  for (std::size_t c = 0; c + 1 < 256; ++c) {  // half way the lower, above it the higher one
    const float middle = (dynamic8::kValues[c] + dynamic8::kValues[c + 1]) / 2;
    EXPECT_EQ(dynamic8::encode(middle), c);
    EXPECT_EQ(dynamic8::encode(std::nextafter(middle, 2.0f)), c + 1);
  }
  for (std::uint8_t c = 0; c < 15; ++c) {
    const float middle = (nf4::kLevels[c] + nf4::kLevels[c + 1]) / 2;
    EXPECT_EQ(nf4::encode(nf4::kLevels[c]), c);
    EXPECT_EQ(nf4::encode(middle), c);
    EXPECT_EQ(nf4::encode(std::nextafter(middle, 2.0f)), c + 1);
  }
}

TEST(Nf4Double, EqualsBitsandbytes) {
  const GoldenTensors golden("nf4.safetensors");
  ThreadPool four(4);
  for (const std::string& name : golden.names(".codes")) {
    SCOPED_TRACE(name);
    const std::vector<float> weight = golden.values(name + ".weight");
    const Nf4Double q = quantize_nf4_double(weight, four);
    EXPECT_EQ(q.codes, bytes_of(golden[name + ".codes"]));
    // the tool sums the mean in f32, here it is exact: two places of f32, which move no code of these cases
    const float place = 0x1p-22f * q.offset;
    EXPECT_NEAR(q.offset, golden.values(name + ".offset").front(), place);
    EXPECT_EQ(q.absmax, bytes_of(golden[name + ".absmax"]));
    EXPECT_THAT(q.nested_absmax, testing::Pointwise(testing::FloatNear(place), golden.values(name + ".nested_absmax")));
    const std::vector<float> scales = decode_scales(q);
    EXPECT_THAT(scales, testing::Pointwise(testing::FloatNear(place), golden.values(name + ".scales")));
  }
}

TEST(Nf4Double, RoundsAMatrix) {
  const Tensor weight = GoldenTensors("nf4.safetensors")["normal.weight"];
  ThreadPool pool(2);
  const LinearParts parts = round_to_nf4(weight, "w", pool);
  const Tensor values = to_f32(weight);
  const Nf4Double q = quantize_nf4_double({values.data<float>(), static_cast<std::size_t>(values.numel())}, pool);
  const std::vector<float> scales = decode_scales(q);
  const Tensor decoded = dequantize(parts.weight);
  for (std::int64_t i = 0; i < decoded.numel(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    ASSERT_EQ(decoded.data<float>()[i], nf4::kLevels[q.codes[at]] * scales[at / 64]) << i;
  }
  EXPECT_EQ(bytes_of(parts.nested.codes), q.absmax);
  EXPECT_EQ(parts.nested.offset, q.offset);
}

TEST(Nf4Double, RefusesWhatItCannotRound) {
  ThreadPool pool(1);
  EXPECT_THROW(quantize_nf4_double({}, pool), Error);
  EXPECT_THROW(round_to_nf4(Tensor::zeros(DType::kF32, {2, 96}), "w", pool), Error);
  EXPECT_THROW(round_to_nf4(Tensor::from(std::vector<float>(64, NAN), {1, 64}), "w", pool), Error);
}

}  // namespace
}  // namespace halftone
