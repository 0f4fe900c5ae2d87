// GGUF's blocks: every instruction set against the scalar rounding, which tests/quant compares with ggml's bytes.
#include "ops/ggml_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/ops/targets.h"

namespace halftone {
namespace {

using Round = void (*)(const float*, std::int64_t, std::uint8_t*);

void expect_the_scalar_bytes(Round round, Round reference, const std::vector<float>& x, std::int64_t count,
                             std::int64_t bytes) {
  std::vector<std::uint8_t> wanted(static_cast<std::size_t>(count * bytes + 1), 0xee);
  reference(x.data(), count, wanted.data());
  for_each_target([&] {
    std::vector<std::uint8_t> got(wanted.size(), 0xee);
    round(x.data(), count, got.data());
    EXPECT_EQ(got, wanted);
  });
}

void expect_all(const std::vector<float>& x) {
  const auto n = static_cast<std::int64_t>(x.size());
  expect_the_scalar_bytes(round_q8_0, scalar::round_q8_0, x, n / 32, 34);
  expect_the_scalar_bytes(round_q4_0, scalar::round_q4_0, x, n / 32, 18);
  expect_the_scalar_bytes(round_q4_k, scalar::round_q4_k, x, n / 256, 144);
  expect_the_scalar_bytes(round_q4_k, scalar::round_q4_k, x, 1, 144);
}

TEST(GgmlBlocks, EveryInstructionSetGivesTheScalarBytes) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const float size : {1.0f, 0.02f, 1e-6f, 1e-20f, 3e-39f, 1e30f}) {
    std::vector<float> x(256 * 9);
    for (float& value : x) value = size * normal(random);
    expect_all(x);
  }
}

// Flat and one-sided parts, zeros of both signs, ties, outliers, and scales whose inverse overflows.
TEST(GgmlBlocks, AlsoOfOddBlocks) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> x(256 * 7);
  const std::vector<float (*)(float)> kinds{[](float) { return 0.0f; },
                                            [](float u) { return u < 0.5f ? 0.0f : -0.0f; },
                                            [](float) { return 0.25f; },
                                            [](float) { return -0.25f; },
                                            [](float u) { return u + 3; },
                                            [](float u) { return -u - 3; },
                                            [](float u) { return -1e-3f - (u < 0.9f ? 0 : 1e4f); },
                                            [](float u) { return std::round(u * 254 - 127) / 2; },
                                            [](float u) { return u < 0.97f ? u * 1e-3f : -1e6f; },
                                            [](float u) { return u < 0.5f ? 1e-44f : -2.8e-45f; },
                                            [](float u) { return u < 0.5f ? 8.0f : -8.0f; },
                                            [](float u) { return u < 0.03f ? 1.0f : 0.0f; }};
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = kinds[i / 32 % kinds.size()](uniform(random));
  expect_all(x);
}

}  // namespace
}  // namespace halftone
