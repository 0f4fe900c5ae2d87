#include "quant/awq.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/random.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

constexpr std::int64_t kInputs = 128, kOutputs = 24, kSamples = 64;
const QuantSpec kInt4{Element::kInt4, Granularity::kGroup, 128};

// Two layers behind one input with a few large channels, whose weights are as large as the others.
struct Case {
  Tensor first, second;
  InputStatistics statistics;

  Case() {
    Random random(7);
    const auto normal = [&](std::int64_t rows, std::int64_t cols) {
      Tensor t(DType::kF32, {rows, cols});
      for (std::int64_t i = 0; i < t.numel(); ++i) {
        double sum = -6;
        for (int k = 0; k < 12; ++k) sum += random.uniform();
        t.data<float>()[i] = static_cast<float>(sum);
      }
      return t;
    };
    first = normal(kOutputs, kInputs);
    second = normal(kOutputs / 2, kInputs);
    Tensor x = normal(kSamples, kInputs);
    statistics.tokens = kSamples;
    statistics.absmax.resize(kInputs);
    statistics.abs_sum.resize(kInputs);
    for (std::int64_t r = 0; r < kSamples; ++r) {
      for (std::int64_t c = 0; c < kInputs; ++c) {
        float& value = x.data<float>()[r * kInputs + c];
        if (c % 40 == 3) value *= 30;
        if (c == 9) value = 0;
        const auto i = static_cast<std::size_t>(c);
        statistics.absmax[i] = std::max(statistics.absmax[i], std::abs(value));
        statistics.abs_sum[i] += std::abs(value);
      }
    }
    statistics.rows = x;
  }
  std::vector<InputReader> linears() const { return {{"first", &first, {kInt4}}, {"second", &second, {kInt4}}}; }
};

// mean over outputs of |X (Q(W s) / s - W)|^2 / |X W|^2, term by term in double
double direct_loss(const Case& test, const std::vector<float>& s) {
  ThreadPool pool(1);
  double total = 0;
  for (const Tensor* weight : {&test.first, &test.second}) {
    Tensor scaled = weight->clone();
    multiply_columns(s, scaled);
    const Tensor decoded = dequantize(round_to_nearest(scaled, kInt4, DType::kBF16, {}, "w", pool));
    for (std::int64_t o = 0; o < weight->dim(0); ++o) {
      double error = 0, energy = 0;
      for (std::int64_t r = 0; r < kSamples; ++r) {
        double e = 0, y = 0;
        for (std::int64_t c = 0; c < kInputs; ++c) {
          const double x = test.statistics.rows.data<float>()[r * kInputs + c];
          const double w = weight->data<float>()[o * kInputs + c];
          e += x * (double(decoded.data<float>()[o * kInputs + c]) / s[static_cast<std::size_t>(c)] - w);
          y += x * w;
        }
        error += e * e;
        energy += y * y;
      }
      total += error / energy;
    }
  }
  return total / (kOutputs + kOutputs / 2);
}

TEST(Awq, FindsAScalingThatHalvesTheErrorOfOutlierChannels) {
  const Case test;
  const auto linears = test.linears();
  const AwqResult result =
      search_awq(linears, test.statistics, identity_channels(kInputs), DType::kBF16, default_stream());
  EXPECT_LT(result.loss, result.loss_without / 2);
  EXPECT_GT(result.alpha, 0);
  EXPECT_GT(result.factors[3], result.factors[4]);
  EXPECT_EQ(result.factors[9], 1.0f);  // nothing is known of a channel that was always zero
  // f32 products of 128 terms against double: relative 128 * 2^-24 of sums that are some 10 times the error
  EXPECT_NEAR(result.loss, direct_loss(test, result.factors), 1e-4 * result.loss);
  EXPECT_NEAR(result.loss_without, direct_loss(test, std::vector<float>(kInputs, 1.0f)), 1e-4 * result.loss_without);
}

TEST(Awq, DoesNotDependOnThreads) {
  const Case test;
  const auto linears = test.linears();
  ThreadPool one(1), three(3);
  Stream a{&one}, b{&three};
  const ChannelMap map = identity_channels(kInputs);
  EXPECT_EQ(search_awq(linears, test.statistics, map, DType::kBF16, a).factors,
            search_awq(linears, test.statistics, map, DType::kBF16, b).factors);
}

TEST(Awq, HeadsThatShareAWriterShareTheFactor) {
  const Case test;
  const auto linears = test.linears();
  const ChannelMap map = grouped_head_channels(4, 2, 32);
  const AwqResult result = search_awq(linears, test.statistics, map, DType::kBF16, default_stream());
  EXPECT_EQ(result.factors.size(), 64u);
  EXPECT_NEAR(result.loss, direct_loss(test, spread(result.factors, map)), 1e-4 * result.loss);
}

TEST(Awq, NothingIsScaledWhereScalingDoesNotHelp) {
  Case test;
  const Tensor exact =
      Tensor::from(std::vector<float>(4 * kInputs, 1.875f), {4, kInputs});  // every weight is 7 steps of 2/7.5
  Tensor steps = exact.clone();
  for (std::int64_t i = 0; i < steps.numel(); ++i) steps.data<float>()[i] = static_cast<float>(i % 15 - 7) * 0.25f;
  for (std::int64_t r = 0; r < 4; ++r) steps.data<float>()[r * kInputs] = 1.875f;  // scale 0.25
  const std::vector<InputReader> linears{{"steps", &steps, {kInt4}}};
  const AwqResult result =
      search_awq(linears, test.statistics, identity_channels(kInputs), DType::kBF16, default_stream());
  EXPECT_LE(result.loss, result.loss_without);
}

TEST(Awq, ShapesThatDoNotFitAreErrors) {
  const Case test;
  const auto linears = test.linears();
  EXPECT_THROW(search_awq(linears, test.statistics, identity_channels(64), DType::kBF16, default_stream()), Error);
  EXPECT_THROW(search_awq({}, test.statistics, identity_channels(kInputs), DType::kBF16, default_stream()), Error);
}

}  // namespace
}  // namespace halftone
