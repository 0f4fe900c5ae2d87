#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

namespace halftone {
namespace {

TEST(Sampler, GreedyTakesTheLargestAndTheSmallestIdAmongEquals) {
  Sampler sampler({});
  const Choice choice = sampler.choose(std::vector<float>{1, 3, 2.5f, 3});
  EXPECT_EQ(choice.token, 1);
  EXPECT_EQ(choice.gap, 0.0f);
  EXPECT_EQ(sampler.choose(std::vector<float>{-5, -1, -3}).gap, 2.0f);
}

TEST(Sampler, RefusesWhatIsNoNumber) {
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions options;
    options.temperature = temperature;
    Sampler sampler(options);
    EXPECT_THROW(sampler.choose(std::vector<float>{1, std::nanf(""), 2}), Error);
    EXPECT_THROW(sampler.choose(std::vector<float>{1, std::numeric_limits<float>::infinity()}), Error);
    EXPECT_THROW(sampler.choose(std::vector<float>{-std::numeric_limits<float>::infinity(), 1}), Error);
  }
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  for (const auto& change : std::vector<void (*)(SamplingOptions&)>{
           [](SamplingOptions& o) { o.temperature = -1; }, [](SamplingOptions& o) { o.temperature = std::nan(""); },
           [](SamplingOptions& o) { o.top_p = 0; }, [](SamplingOptions& o) { o.top_p = 1.5; },
           [](SamplingOptions& o) { o.top_k = -1; }}) {
    SamplingOptions options;
    change(options);
    EXPECT_THROW(Sampler{options}, Error);
  }
}

std::map<TokenId, int> draw_many(const SamplingOptions& options, const std::vector<float>& logits, int count) {
  Sampler sampler(options);
  std::map<TokenId, int> drawn;
  for (int i = 0; i < count; ++i) ++drawn[sampler.choose(logits).token];
  return drawn;
}

TEST(Sampler, DrawsByProbability) {
  SamplingOptions options;
  options.temperature = 2;
  options.seed = 5;
  // probabilities 1/8, 1/2, 3/8 at temperature 2
  const std::vector<float> logits{2 * std::log(1.0f), 2 * std::log(4.0f), 2 * std::log(3.0f)};
  const int count = 20000;
  std::map<TokenId, int> drawn = draw_many(options, logits, count);
  // five standard deviations of a binomial count
  EXPECT_NEAR(drawn[0], count / 8.0, 5 * std::sqrt(count * 7 / 64.0));
  EXPECT_NEAR(drawn[1], count / 2.0, 5 * std::sqrt(count / 4.0));
  EXPECT_NEAR(drawn[2], count * 3 / 8.0, 5 * std::sqrt(count * 15 / 64.0));
  EXPECT_EQ(draw_many(options, logits, 100), draw_many(options, logits, 100));
}

// By a program with integers of any size that follows ops/token_draw.h; the cuts keep 1000, 40, 278 and 106 tokens.
TEST(Sampler, DrawsTheTokensOfItsDefinition) {
  std::vector<float> logits;
  for (int i = 0; i < 1000; ++i) logits.push_back(static_cast<float>(i * 37 % 101) / 8);
  const auto drawn = [&](double temperature, std::int64_t top_k, double top_p, std::uint64_t seed) {
    SamplingOptions options;
    options.temperature = temperature;
    options.top_k = top_k;
    options.top_p = top_p;
    options.seed = seed;
    Sampler sampler(options);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 10; ++i) tokens.push_back(sampler.choose(logits).token);
    return tokens;
  };
  using Tokens = std::vector<TokenId>;
  EXPECT_EQ(drawn(1.5, 0, 1, 7), (Tokens{887, 232, 638, 431, 139, 423, 543, 756, 767, 311}));
  EXPECT_EQ(drawn(2, 40, 1, 8), (Tokens{393, 393, 696, 90, 232, 363, 726, 363, 232, 666}));
  EXPECT_EQ(drawn(3, 0, 0.7, 9), (Tokens{278, 439, 857, 671, 756, 969, 147, 133, 827, 772}));
  EXPECT_EQ(drawn(4, 120, 0.9, 10), (Tokens{333, 442, 262, 674, 876, 27, 68, 947, 330, 797}));
}

TEST(Sampler, CutsToTopKAndTopP) {
  SamplingOptions options;
  options.temperature = 1;
  const std::vector<float> logits{std::log(0.1f), std::log(0.4f), std::log(0.3f), std::log(0.2f)};
  options.top_k = 2;
  for (const auto& [token, count] : draw_many(options, logits, 500)) EXPECT_TRUE(token == 1 || token == 2) << token;
  options.top_k = 0;
  options.top_p = 0.65;  // 0.4 is not enough, 0.4 + 0.3 is
  const auto drawn = draw_many(options, logits, 500);
  EXPECT_EQ(drawn.size(), 2u);
  EXPECT_TRUE(drawn.contains(1) && drawn.contains(2));
  options.top_p = 0.3;
  EXPECT_EQ(draw_many(options, logits, 50).size(), 1u);
}

}  // namespace
}  // namespace halftone
