#include "quant/clip.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/random.h"

namespace halftone {
namespace {

constexpr std::int64_t kInputs = 96, kOutputs = 6, kSamples = 40;  // the last group is half as long
const QuantSpec kSymmetric{Element::kInt4, Granularity::kGroup, 64};
const QuantSpec kAsymmetric{Element::kInt4, Granularity::kGroup, 64, false, true};

// Bell-shaped weights with an outlier in the first group, whose inputs are small.
struct Case {
  Tensor weight{DType::kF32, {kOutputs, kInputs}}, rows{DType::kF32, {kSamples, kInputs}};

  Case() {
    Random random(11);
    const auto fill = [&](Tensor& t) {
      for (std::int64_t i = 0; i < t.numel(); ++i) {
        double sum = -6;
        for (int k = 0; k < 12; ++k) sum += random.uniform();
        t.data<float>()[i] = static_cast<float>(sum);
      }
    };
    fill(weight);
    fill(rows);
    for (std::int64_t r = 0; r < kOutputs; ++r) weight.data<float>()[r * kInputs + 5] = 6;
    for (std::int64_t r = 0; r < kSamples; ++r) rows.data<float>()[r * kInputs + 5] *= 0.05f;
  }
};

// The definition, term by term in double, of one group.
double loss(const Case& test, const QuantSpec& spec, float share, std::int64_t output, std::int64_t g) {
  ThreadPool pool(1);
  const std::int64_t groups = 2;
  const Tensor clamped =
      clamp_groups(test.weight, spec, std::vector<float>(static_cast<std::size_t>(kOutputs * groups), share), pool);
  const Tensor decoded = dequantize(round_to_nearest(clamped, spec, DType::kBF16, {}, "w", pool));
  double sum = 0;
  for (std::int64_t r = 0; r < kSamples; ++r) {
    double error = 0;
    for (std::int64_t c = g * 64; c < std::min(kInputs, g * 64 + 64); ++c) {
      const std::int64_t at = output * kInputs + c;
      error += double(test.rows.data<float>()[r * kInputs + c]) *
               (double(decoded.data<float>()[at]) - double(test.weight.data<float>()[at]));
    }
    sum += error * error;
  }
  return sum;
}

TEST(Clip, EachGroupTakesTheShareOfItsLeastError) {
  const Case test;
  for (const QuantSpec& spec : {kSymmetric, kAsymmetric}) {
    const std::vector<float> shares = search_clip(test.weight, spec, DType::kBF16, test.rows, "w", default_stream());
    ASSERT_EQ(shares.size(), std::size_t{2 * kOutputs});
    for (std::int64_t o = 0; o < kOutputs; ++o) {
      for (std::int64_t g = 0; g < 2; ++g) {
        const double found = loss(test, spec, shares[static_cast<std::size_t>(2 * o + g)], o, g);
        for (int step = 0; step <= 10; ++step) {
          // f32 sums of 64^2 terms: relative 64 * 2^-24 of terms that cancel at most some thousandfold
          EXPECT_LE(found, loss(test, spec, 1 - 0.05f * static_cast<float>(step), o, g) * (1 + 1e-3)) << o << " " << g;
        }
      }
      EXPECT_LT(shares[static_cast<std::size_t>(2 * o)], 1) << "the outlier is worth cutting in output " << o;
    }
  }
}

TEST(Clip, ClampsToTheShareOfTheRange) {
  ThreadPool pool(1);
  const Tensor weight = Tensor::from({-2, 1, 4, -1, 8, 6, 1, 2}, {2, 4});
  const QuantSpec symmetric{Element::kInt4, Granularity::kGroup, 4};
  const auto values = [&](const QuantSpec& spec) {
    const Tensor t = clamp_groups(weight, spec, std::vector<float>{0.5f, 0.5f}, pool);
    return std::vector<float>(t.data<float>(), t.data<float>() + 8);
  };
  EXPECT_THAT(values(symmetric), testing::ElementsAre(-2, 1, 2, -1, 4, 4, 1, 2));
  QuantSpec asymmetric = symmetric;
  asymmetric.asymmetric = true;
  EXPECT_THAT(values(asymmetric), testing::ElementsAre(-1, 1, 2, -1, 4, 4, 1, 2));
}

TEST(Clip, DoesNotDependOnThreads) {
  const Case test;
  ThreadPool one(1), three(3);
  Stream a{&one}, b{&three};
  EXPECT_EQ(search_clip(test.weight, kSymmetric, DType::kBF16, test.rows, "w", a),
            search_clip(test.weight, kSymmetric, DType::kBF16, test.rows, "w", b));
}

TEST(Clip, OnlyIntegersInGroups) {
  const Case test;
  const QuantSpec channel{Element::kInt8, Granularity::kChannel, 0};
  EXPECT_FALSE(can_clip(channel));
  EXPECT_FALSE(can_clip({Element::kE2M1, Granularity::kGroup, 16}));
  EXPECT_THROW(search_clip(test.weight, channel, DType::kBF16, test.rows, "w", default_stream()), Error);
  EXPECT_THROW(search_clip(test.weight, kSymmetric, DType::kBF16, {}, "w", default_stream()), Error);
  ThreadPool pool(1);
  EXPECT_THROW(clamp_groups(test.weight, kSymmetric, std::vector<float>(3, 1.0f), pool), Error);
}

}  // namespace
}  // namespace halftone
