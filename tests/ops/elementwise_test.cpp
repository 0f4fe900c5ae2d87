// Elementwise ops, norms and rotary embedding against their formulas, and their independence of position and threads.
#include "ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "formats/bf16.h"
#include "ops/exp.h"
#include "ops/norm_kernels.h"
#include "ops/rope_kernels.h"
#include "tests/ops/linear_cases.h"
#include "tests/ops/targets.h"

namespace halftone {
namespace {

using testing::random_input;

float rounded(Numerics numerics, float x) { return numerics == Numerics::kBF16 ? bf16::round(x) : x; }

// Values of every size, zero, infinity and NaN, [1, count].
Tensor hard_input(std::int64_t count, std::uint64_t seed) {
  Tensor x = random_input(1, count, seed);
  constexpr float special[] = {0.0f,    -0.0f, INFINITY, -INFINITY, NAN,   1e-40f,
                               -1e-40f, 88.0f, -88.0f,   -103.5f,   1e30f, -1e30f};
  for (std::int64_t i = 0; i < count; ++i) {
    x.data<float>()[i] = i % 7 == 0 ? special[i / 7 % 12] : x.data<float>()[i] * 20;
  }
  return x;
}

void expect_equal_bits(float got, float wanted, std::int64_t i) {
  if (std::isnan(wanted)) {
    ASSERT_TRUE(std::isnan(got)) << i;
  } else {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got), std::bit_cast<std::uint32_t>(wanted))
        << i << ": " << got << ", " << wanted;
  }
}

// Runs `op(x, y)` on lengths around the vectors' and pieces' ends and compares with `scalar(x, y)` bit for bit.
template <typename Op, typename Scalar>
void check_map(Op op, Scalar scalar) {
  for_each_target([&] {
    for (const std::int64_t count : {1, 7, 8, 15, 17, 33, 100, 70001}) {
      const Tensor x = hard_input(count, 3);
      Tensor y = hard_input(count, 4);
      const Tensor before = y.clone();
      op(x, y);
      for (std::int64_t i = 0; i < count; ++i) {
        expect_equal_bits(y.data<float>()[i], scalar(x.data<float>()[i], before.data<float>()[i]), i);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

class Elementwise : public ::testing::TestWithParam<Numerics> {};

TEST_P(Elementwise, Add) {
  check_map([](const Tensor& x, Tensor& y) { add(x, GetParam(), y, default_stream()); },
            [](float a, float b) { return rounded(GetParam(), a + b); });
}

TEST_P(Elementwise, QuickGelu) {
  check_map([](const Tensor& x, Tensor& y) { quick_gelu(x, GetParam(), y, default_stream()); },
            [](float a, float) {
              const float s = rounded(GetParam(), exponential::sigmoid(rounded(GetParam(), 1.702f * a)));
              return rounded(GetParam(), a * s);
            });
}

TEST_P(Elementwise, RoundTo) {
  check_map(
      [](const Tensor& x, Tensor& y) {
        std::memcpy(y.raw(), x.raw(), static_cast<std::size_t>(x.nbytes()));
        round_to(GetParam(), y, default_stream());
      },
      [](float a, float) { return rounded(GetParam(), a); });
}

TEST_P(Elementwise, SiluMul) {
  for_each_target([] {
    constexpr std::int64_t kRows = 5, kCols = 37;
    const Tensor x = hard_input(kRows * 2 * kCols, 3).reshape({kRows, 2 * kCols});
    Tensor y(DType::kF32, {kRows, kCols});
    silu_mul(x, GetParam(), y, default_stream());
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      const float gate = x.data<float>()[i / kCols * 2 * kCols + i % kCols];
      const float up = x.data<float>()[i / kCols * 2 * kCols + kCols + i % kCols];
      const float silu = rounded(GetParam(), gate * exponential::sigmoid(gate));
      expect_equal_bits(y.data<float>()[i], rounded(GetParam(), silu * up), i);
    }
  });
}

// Against the definition in double: the erf of the C library is good to 1 ulp, three more roundings follow.
TEST_P(Elementwise, GeluErf) {
  const Tensor x = random_input(1, 1000, 3);
  Tensor y(DType::kF32, x.shape());
  gelu_erf(x, GetParam(), y, default_stream());
  const double ulp = GetParam() == Numerics::kBF16 ? 0x1p-8 : 0x1p-22;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const double a = x.data<float>()[i], wanted = a / 2 * (1 + std::erf(a / std::sqrt(2.0)));
    EXPECT_NEAR(y.data<float>()[i], wanted, ulp * std::max(std::fabs(a), std::fabs(wanted)));
  }
}

// The kernels of norms and rotations on lengths around the vectors' ends, with hard values, against the references.
TEST_P(Elementwise, NormsAndRopeGiveTheBitsOfTheReferences) {
  for_each_target([] {
    for (const std::int64_t cols : {1, 2, 7, 8, 9, 16, 31, 40, 64, 333, 1536}) {
      constexpr std::int64_t kRows = 3;
      const Tensor x = hard_input(kRows * cols, 5).reshape({kRows, cols}), w = hard_input(cols, 6).reshape({cols});
      const Tensor finite = random_input(kRows, cols, 7), b = hard_input(cols, 8).reshape({cols});
      Tensor y(DType::kF32, x.shape());
      std::vector<float> wanted(static_cast<std::size_t>(2 * cols));
      for (const Tensor& input : {x, finite}) {
        const auto check_rows = [&](auto reference) {
          for (std::int64_t i = 0; i < y.numel(); ++i) {
            if (i % cols == 0) reference(input.data<float>() + i);
            expect_equal_bits(y.data<float>()[i], wanted[static_cast<std::size_t>(i % cols)], i);
          }
        };
        rms_norm(input, w, 1e-6f, GetParam(), y, default_stream());
        check_rows([&](const float* row) {
          rms_norm_row_reference(row, w.data<float>(), cols, 1e-6f, GetParam(), wanted.data());
        });
        layer_norm(input, w, b, 1e-6f, GetParam(), y, default_stream());
        check_rows([&](const float* row) {
          layer_norm_row_reference(row, w.data<float>(), b.data<float>(), cols, 1e-6f, GetParam(), wanted.data());
        });
      }
      Tensor turned = hard_input(2 * cols, 9);
      std::copy_n(turned.data<float>(), 2 * cols, wanted.begin());
      rotate_reference(w.data<float>(), b.data<float>(), cols, GetParam(), wanted.data());
      Tensor heads = turned.reshape({1, 1, 2 * cols});
      rope(w.reshape({1, cols}), b.reshape({1, cols}), GetParam(), heads, default_stream());
      for (std::int64_t i = 0; i < 2 * cols; ++i) {
        expect_equal_bits(turned.data<float>()[i], wanted[static_cast<std::size_t>(i)], i);
      }
      if (HasFatalFailure()) return;
    }
  });
}

// 4 ulp, and in bf16 one step for each of the two roundings.
TEST_P(Elementwise, RmsNorm) {
  for (const std::int64_t cols : {1, 7, 256, 1537}) {
    const Tensor x = random_input(3, cols, 5), w = random_input(1, cols, 6).reshape({cols});
    Tensor y(DType::kF32, x.shape());
    rms_norm(x, w, 1e-6f, GetParam(), y, default_stream());
    for (std::int64_t r = 0; r < 3; ++r) {
      const float* row = x.data<float>() + r * cols;
      double squares = 0;
      for (std::int64_t c = 0; c < cols; ++c) squares += static_cast<double>(row[c]) * row[c];
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6);
      for (std::int64_t c = 0; c < cols; ++c) {
        const double wanted = w.data<float>()[c] * (row[c] * inverse);
        const double bound = std::fabs(wanted) * (GetParam() == Numerics::kBF16 ? 2 * 0x1p-8 : 4 * 0x1p-24);
        EXPECT_NEAR(y.data<float>()[r * cols + c], wanted, bound + 1e-30);
      }
    }
  }
}

TEST_P(Elementwise, LayerNorm) {
  for (const std::int64_t cols : {2, 7, 256, 1280}) {
    const Tensor x = random_input(3, cols, 5), w = random_input(1, cols, 6).reshape({cols});
    const Tensor b = random_input(1, cols, 7).reshape({cols});
    Tensor y(DType::kF32, x.shape());
    layer_norm(x, w, b, 1e-6f, GetParam(), y, default_stream());
    for (std::int64_t r = 0; r < 3; ++r) {
      const float* row = x.data<float>() + r * cols;
      double mean = 0, squares = 0;
      for (std::int64_t c = 0; c < cols; ++c) mean += row[c] / static_cast<double>(cols);
      for (std::int64_t c = 0; c < cols; ++c) squares += (row[c] - mean) * (row[c] - mean);
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6);
      for (std::int64_t c = 0; c < cols; ++c) {
        const double scaled = (row[c] - mean) * inverse * w.data<float>()[c], wanted = scaled + b.data<float>()[c];
        // the mean's own rounding is relative to x, all others to the terms of the sum
        const double terms =
            std::fabs(scaled) + std::fabs(b.data<float>()[c]) + std::fabs(inverse * w.data<float>()[c]);
        EXPECT_NEAR(y.data<float>()[r * cols + c], wanted,
                    4 * 0x1p-24 * terms + (GetParam() == Numerics::kBF16 ? 0x1p-8 * std::fabs(wanted) : 0));
      }
    }
  }
}

TEST_P(Elementwise, Rope) {
  constexpr std::int64_t kTokens = 3, kHeads = 2, kHalf = 5;
  const Tensor x = random_input(kTokens * kHeads, 2 * kHalf, 5).reshape({kTokens, kHeads, 2 * kHalf});
  const Tensor cos = random_input(kTokens, kHalf, 6), sin = random_input(kTokens, kHalf, 7);
  Tensor y = x.clone();
  rope(cos, sin, GetParam(), y, default_stream());
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t j = 0; j < kHalf; ++j) {
        const std::int64_t at = (t * kHeads + h) * 2 * kHalf + j;
        const float low = x.data<float>()[at], high = x.data<float>()[at + kHalf];
        const float c = cos.data<float>()[t * kHalf + j], s = sin.data<float>()[t * kHalf + j];
        const auto round = [](float v) { return rounded(GetParam(), v); };
        EXPECT_EQ(y.data<float>()[at], round(round(low * c) - round(high * s)));
        EXPECT_EQ(y.data<float>()[at + kHalf], round(round(high * c) + round(low * s)));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Numerics, Elementwise, ::testing::Values(Numerics::kF32, Numerics::kBF16),
                         [](const auto& param) { return param.param == Numerics::kF32 ? "F32" : "BF16"; });

TEST(ElementwiseErrors, RefuseShapesThatDoNotFit) {
  Tensor y(DType::kF32, {2, 3});
  EXPECT_THROW(add(Tensor(DType::kF32, {2, 4}), Numerics::kF32, y, default_stream()), Error);
  EXPECT_THROW(silu_mul(Tensor(DType::kF32, {2, 5}), Numerics::kF32, y, default_stream()), Error);
  EXPECT_THROW(rms_norm(y, Tensor(DType::kF32, {2}), 1e-6f, Numerics::kF32, y, default_stream()), Error);
  EXPECT_THROW(rope(y, y, Numerics::kF32, y, default_stream()), Error);
}

}  // namespace
}  // namespace halftone
