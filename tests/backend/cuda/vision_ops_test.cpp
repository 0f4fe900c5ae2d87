// The small ops of a vision tower on the device against the CPU's, among NaN and with odd strides.
#include "backend/cuda/vision_ops.h"

#include "ops/elementwise.h"
#include "ops/rope.h"
#include "tests/backend/cuda/paged_cache.h"

namespace halftone {
namespace {

using testing::bf16_input;
using testing::bf16_step;
using testing::DeviceRows;

class CudaVisionOps : public testing::DeviceOpsTest {};

const float* floats(const DeviceRows& rows) { return static_cast<const float*>(rows.matrix().data); }

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data<float>(), b.data<float>(), static_cast<std::size_t>(a.numel()) * sizeof(float)) == 0;
}

TEST_F(CudaVisionOps, LayerNormIsWithinAStepOfTheCpu) {
  for (const std::int64_t cols : {8, 72, 264, 512, 1280, 2048}) {
    for (const bool adds : {false, true}) {
      Tensor x = bf16_input(11, cols, 1);
      for (std::int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] += 2.0f;  // a mean far from zero
      round_to(Numerics::kBF16, x, cpu_);
      const Tensor w = testing::random_input(1, cols, 2), b = testing::random_input(1, cols, 3);
      const Tensor more = bf16_input(11, cols, 4);
      DeviceRows device_x(DType::kBF16, x, 8), y(DType::kBF16, 11, cols, 16);
      const DeviceRows added(DType::kBF16, more, 24), weight(DType::kF32, w), bias(DType::kF32, b);
      cuda::layer_norm({device_x.matrix(), adds ? added.matrix() : cuda::DeviceMatrix{}, floats(weight), floats(bias),
                        1e-6f, y.matrix()},
                       launch());
      stream_->synchronize();
      if (adds) add(more, Numerics::kBF16, x, cpu_);
      EXPECT_TRUE(same_bits(device_x.values(), x)) << cols;
      Tensor wanted(DType::kF32, x.shape());
      layer_norm(x, w.reshape({cols}), b.reshape({cols}), 1e-6f, Numerics::kBF16, wanted, cpu_);
      const Tensor got = y.values();
      for (std::int64_t i = 0; i < got.numel(); ++i) {
        const float value = wanted.data<float>()[i], shift = std::fabs(b.data<float>()[i % cols]);
        ASSERT_NEAR(got.data<float>()[i], value, bf16_step(value) + shift * 0x1p-18f) << cols << ", element " << i;
      }
      EXPECT_TRUE(y.padding_intact() && device_x.padding_intact());
    }
  }
}

TEST_F(CudaVisionOps, QuickGeluIsWithinAStepOfTheCpu) {
  Tensor x = bf16_input(7, 2056, 1);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] *= 8.0f;
  Tensor wanted = x.clone();
  quick_gelu(wanted, Numerics::kBF16, wanted, cpu_);
  DeviceRows y(DType::kBF16, x, 8);
  cuda::quick_gelu(y.matrix(), launch());
  stream_->synchronize();
  const Tensor got = y.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float value = wanted.data<float>()[i];
    // a step of the sigmoid and the rounding of the product
    ASSERT_NEAR(got.data<float>()[i], value, 2 * bf16_step(value)) << x.data<float>()[i];
  }
  EXPECT_TRUE(y.padding_intact());
}

TEST_F(CudaVisionOps, GeluIsWithinAStepOfTheCpu) {
  Tensor x = bf16_input(7, 2056, 1);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] *= 4.0f;
  Tensor wanted = x.clone();
  gelu_erf(wanted, Numerics::kBF16, wanted, cpu_);
  DeviceRows y(DType::kBF16, x, 8);
  cuda::gelu_erf(y.matrix(), launch());
  stream_->synchronize();
  const Tensor got = y.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float value = wanted.data<float>()[i];
    // 1 + erf cancels for negative x: what is left has the absolute error of erf
    ASSERT_NEAR(got.data<float>()[i], value, bf16_step(value) + std::fabs(x.data<float>()[i]) * 0x1p-22f) << i;
  }
  EXPECT_TRUE(y.padding_intact());
}

TEST_F(CudaVisionOps, RotationsAreTheBitsOfTheCpu) {
  for (const auto& [heads, d] : {std::pair<std::int64_t, std::int64_t>{4, 80}, {3, 72}, {1, 8}, {32, 64}}) {
    const Tensor x = bf16_input(13, heads * d, 1);
    const Tensor cos = testing::random_input(13, d / 2, 2), sin = testing::random_input(13, d / 2, 3);
    Tensor wanted = x.clone().reshape({13, heads, d});
    rope(cos, sin, Numerics::kF32, wanted, cpu_);
    round_to(Numerics::kBF16, wanted, cpu_);
    DeviceRows y(DType::kBF16, x, 8);
    const DeviceRows device_cos(DType::kF32, cos), device_sin(DType::kF32, sin);
    cuda::rotate_heads(y.matrix(), heads, floats(device_cos), floats(device_sin), launch());
    stream_->synchronize();
    EXPECT_TRUE(same_bits(y.values(), wanted)) << d;
    EXPECT_TRUE(y.padding_intact());
  }
}

TEST_F(CudaVisionOps, RoundsRows) {
  const Tensor x = testing::random_input(5, 1176, 1);
  const DeviceRows device_x(DType::kF32, x, 4);
  DeviceRows y(DType::kBF16, 5, 1176, 8);
  cuda::round_rows(device_x.matrix(), y.matrix(), launch());
  stream_->synchronize();
  EXPECT_TRUE(same_bits(y.values(), to_f32(from_f32(x, DType::kBF16))));
  EXPECT_TRUE(y.padding_intact());
}

TEST_F(CudaVisionOps, SayWhatDoesNotFit) {
  DeviceRows x(DType::kBF16, 2, 16), narrow(DType::kBF16, 2, 12), odd(DType::kBF16, 2, 16, 1), f32(DType::kF32, 2, 16);
  DeviceRows wide(DType::kBF16, 2, 2056);
  EXPECT_THROW(cuda::quick_gelu(narrow.matrix(), launch()), Error);
  EXPECT_THROW(cuda::quick_gelu(odd.matrix(), launch()), Error);
  EXPECT_THROW(cuda::gelu_erf(f32.matrix(), launch()), Error);
  EXPECT_THROW(cuda::rotate_heads(x.matrix(), 4, floats(f32), floats(f32), launch()), Error);
  EXPECT_THROW(cuda::rotate_heads(x.matrix(), 2, nullptr, floats(f32), launch()), Error);
  EXPECT_THROW(cuda::round_rows(x.matrix(), x.matrix(), launch()), Error);
  EXPECT_THROW(cuda::layer_norm({wide.matrix(), {}, floats(f32), floats(f32), 0.0f, wide.matrix()}, launch()), Error);
}

}  // namespace
}  // namespace halftone
