// AWQ as ModelOpt does it, and SVDQuant: tests/golden/awq.safetensors (make_awq_golden.py).
#include "quant/awq_lite.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quant/format_names.h"
#include "quant/svdquant.h"
#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::expect_same_bytes;
using testing_support::GoldenTensors;

// The largest relative difference that sums of 128 products in another order may bring to the loss: 2^-12 leaves a
// hundred times the rounding of f32, and losses of neighbouring exponents differ by more.
constexpr double kLossTolerance = 0x1p-12;

TEST(AwqLite, FindsWhatModelOptFinds) {
  const GoldenTensors golden("awq.safetensors");
  for (const std::string format : {"int4_group128", "nvfp4_block16"}) {
    SCOPED_TRACE(format);
    const auto values = [&](const char* part) { return golden.values(format + "." + part); };
    Tensor weight = to_f32(golden[format + ".weight"]).clone();
    const Tensor bias = to_f32(golden[format + ".bias"]);
    InputStatistics statistics;
    statistics.tokens = 1;
    statistics.absmax = values("absmax");
    for (const float mean : values("abs_mean")) statistics.abs_sum.push_back(mean);
    statistics.rows = golden[format + ".rows"];
    statistics.row_weights = values("row_weights");
    AwqLiteLinear linear{format, &weight, &bias, DType::kBF16, weight_format_from_name(format, format), {}};
    const AwqLiteResult found = search_awq_lite(linear, statistics, default_stream());
    EXPECT_EQ(found.alpha, values("alpha").front());
    const std::vector<float> losses = values("losses");
    ASSERT_EQ(found.losses.size(), losses.size());
    for (std::size_t i = 0; i < losses.size(); ++i) {
      EXPECT_NEAR(found.losses[i] / static_cast<double>(losses[i]), 1, kLossTolerance) << "exponent " << i;
    }
    EXPECT_EQ(input_scales(reciprocals(found.scale), DType::kBF16), values("input_scales"));
    scale_weight(reciprocals(found.scale), DType::kBF16, weight);
    expect_same_bytes(from_f32(weight, DType::kBF16), golden[format + ".scaled"], "scaled weight");
  }
}

TEST(SvdQuant, SplitsOffTheLargestDirections) {
  // a product of rank 2, and noise a thousand times smaller
  constexpr std::int64_t kRows = 24, kCols = 16;
  Tensor weight(DType::kF32, {kRows, kCols});
  const auto wave = [](std::int64_t i, int k) { return std::sin(static_cast<float>((i + 1) * (k + 2))); };
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t c = 0; c < kCols; ++c) {
      weight.data<float>()[r * kCols + c] =
          4 * wave(r, 1) * wave(c, 2) + wave(r, 3) * wave(c, 4) + 1e-3f * wave(r * kCols + c, 5);
    }
  }
  const LowRank part = find_low_rank(weight, 2);
  const Tensor product = multiply(part);
  float worst = 0;
  for (std::int64_t i = 0; i < weight.numel(); ++i) {
    worst = std::max(worst, std::abs(product.data<float>()[i] - weight.data<float>()[i]));
  }
  EXPECT_LT(worst, 3e-3f);
  // directions that the shape does not have are zero
  const LowRank whole = find_low_rank(weight, 20);
  EXPECT_EQ(whole.a.shape(), (Shape{20, kCols}));
  EXPECT_EQ(whole.a.data<float>()[19 * kCols], 0.0f);
}

}  // namespace
}  // namespace halftone
