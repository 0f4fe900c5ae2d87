#include "quant/smoothquant.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/random.h"

namespace halftone {
namespace {

constexpr std::int64_t kInputs = 64, kOutputs = 20, kSamples = 48;
const LinearFormat kW8A8{{Element::kInt8, Granularity::kChannel, 0}, InputQuant::Kind::kStaticInt8};

Tensor random_matrix(std::int64_t rows, std::int64_t cols, Random& random) {
  Tensor t(DType::kF32, {rows, cols});
  for (std::int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = static_cast<float>(random.uniform() * 2 - 1);
  return t;
}

// Two layers behind one input, a few of whose channels are a hundred times the others.
struct Case {
  Tensor first, second;
  InputStatistics statistics;

  Case() {
    Random random(3);
    first = random_matrix(kOutputs, kInputs, random);
    second = random_matrix(kOutputs / 2, kInputs, random);
    Tensor x = random_matrix(kSamples, kInputs, random);
    statistics.tokens = kSamples;
    statistics.absmax.resize(kInputs);
    statistics.abs_sum.resize(kInputs);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const auto c = static_cast<std::size_t>(i % kInputs);
      if (c % 30 == 4) x.data<float>()[i] *= 100;
      if (c == 9) x.data<float>()[i] = 0;
      statistics.absmax[c] = std::max(statistics.absmax[c], std::abs(x.data<float>()[i]));
    }
    statistics.rows = x;
  }
  std::vector<InputReader> linears() const { return {{"first", &first, kW8A8}, {"second", &second, kW8A8}}; }
};

// The loss of W8A8 with these factors, term by term in double.
double direct_loss(const Case& test, const std::vector<float>& s) {
  ThreadPool pool(1);
  const Tensor& rows = test.statistics.rows;
  float amax = 0;
  for (std::size_t c = 0; c < s.size(); ++c) amax = std::max(amax, test.statistics.absmax[c] / s[c]);
  const double step = static_input(InputQuant::Kind::kStaticInt8, amax, DType::kBF16).scale;
  double total = 0;
  for (const Tensor* weight : {&test.first, &test.second}) {
    double error = 0, energy = 0;
    Tensor scaled = weight->clone();
    multiply_columns(s, scaled);
    const Tensor decoded = dequantize(round_to_nearest(scaled, kW8A8.weights, DType::kBF16, {}, "w", pool));
    for (std::int64_t o = 0; o < weight->dim(0); ++o) {
      for (std::int64_t r = 0; r < kSamples; ++r) {
        double y = 0, wanted = 0;
        for (std::int64_t c = 0; c < kInputs; ++c) {
          const float x = rows.data<float>()[r * kInputs + c];
          const float q = x / s[static_cast<std::size_t>(c)] / static_cast<float>(step);
          y += std::clamp(std::nearbyint(q), -128.0f, 127.0f) * step * double(decoded.data<float>()[o * kInputs + c]);
          wanted += double(x) * double(weight->data<float>()[o * kInputs + c]);
        }
        error += (y - wanted) * (y - wanted);
        energy += wanted * wanted;
      }
    }
    total += error / energy;
  }
  return total / 2;
}

TEST(SmoothQuantSearch, FindsTheAlphaOfTheLeastError) {
  const Case test;
  const auto linears = test.linears();
  const ChannelMap map = identity_channels(kInputs);
  const SmoothQuantResult found = search_smoothquant(linears, test.statistics, map, DType::kBF16, default_stream());
  // f32 products of 64 terms against double: relative 64 * 2^-24 of outputs that are a hundred times the error
  constexpr double kTolerance = 1e-3;
  EXPECT_NEAR(found.loss, direct_loss(test, found.factors), kTolerance * found.loss);
  EXPECT_NEAR(found.loss_without, direct_loss(test, std::vector<float>(kInputs, 1.0f)),
              kTolerance * found.loss_without);
  EXPECT_LT(found.loss, found.loss_without / 10);
  EXPECT_EQ(found.factors, smoothquant_factors(linears, test.statistics, map, found.alpha));
  for (int step = 0; step <= 10; ++step) {  // no coarse step is better
    const auto factors = smoothquant_factors(linears, test.statistics, map, static_cast<float>(step) / 10);
    EXPECT_GE(direct_loss(test, factors), found.loss * (1 - kTolerance)) << step;
  }
}

TEST(SmoothQuantSearch, DoesNotDependOnThreads) {
  const Case test;
  const auto linears = test.linears();
  ThreadPool one(1), three(3);
  Stream a{&one}, b{&three};
  const ChannelMap map = identity_channels(kInputs);
  const auto first = search_smoothquant(linears, test.statistics, map, DType::kBF16, a);
  const auto second = search_smoothquant(linears, test.statistics, map, DType::kBF16, b);
  EXPECT_EQ(first.factors, second.factors);
  EXPECT_EQ(first.loss, second.loss);
}

TEST(SmoothQuantSearch, HeadsThatShareAWriterShareTheFactor) {
  const Case test;
  const ChannelMap map = grouped_head_channels(4, 2, 16);
  const auto found = search_smoothquant(test.linears(), test.statistics, map, DType::kBF16, default_stream());
  EXPECT_EQ(found.factors.size(), 32u);
  EXPECT_LE(found.loss, found.loss_without);
}

TEST(SmoothQuantSearch, ShapesThatDoNotFitAreErrors) {
  Case test;
  const auto linears = test.linears();
  const auto search = [&](const ChannelMap& map, std::span<const InputReader> layers) {
    return search_smoothquant(layers, test.statistics, map, DType::kBF16, default_stream());
  };
  EXPECT_THROW(search(identity_channels(32), linears), Error);
  EXPECT_THROW(search(identity_channels(kInputs), {}), Error);
  test.statistics.rows = {};
  EXPECT_THROW(search(identity_channels(kInputs), linears), Error);
}

// Expected: torch 2.15 with the lines of modelopt 0.47's smoothquant, on the same values.
TEST(SmoothQuant, HasModelOptsScales) {
  const Tensor weight = Tensor::from({0.30078125f, 0, -1.5f, 0.02001953125f, 0.69921875f,  //
                                      -0.25f, 0, 2.203125f, 0.010009765625f, -0.10009765625f},
                                     {2, 5});
  const std::vector<float> x{2, 0.5f, 0, 3e4f, 1e-6f};
  const auto scales = [&](float alpha) { return modelopt_smoothing(x, weight, alpha, DType::kBF16); };
  EXPECT_THAT(scales(1), testing::ElementsAre(0.5f, 2, 1e4f, 1e-4f, 1e4f));
  EXPECT_THAT(scales(0.5f),
              testing::Pointwise(testing::FloatEq(), {0.386699021f, 1e-4f, 1.0f, 0.000817537017f, 835.937439f}));
  EXPECT_THAT(scales(0.75f),
              testing::Pointwise(testing::FloatEq(), {0.441307336f, 1e-4f, 1.0f, 0.000165366073f, 1e4f}));
}

}  // namespace
}  // namespace halftone
