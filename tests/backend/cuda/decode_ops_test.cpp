// The ops of a decoder's step around its products and attention against their CPU references, among NaN and with odd
// strides.
#include "backend/cuda/decode_ops.h"

#include "backend/cuda/prepare_input.h"
#include "ops/elementwise.h"
#include "tests/backend/cuda/paged_cache.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

using testing::bf16_input;
using testing::bf16_step;
using testing::CudaDecodeOps;
using testing::DeviceIntegers;
using testing::DeviceRows;

TEST_F(CudaDecodeOps, SiluMulIsWithinAStepOfTheCpu) {
  const Tensor gate_up = bf16_input(5, 2 * 301, 1);
  Tensor wanted(DType::kF32, {5, 301});
  silu_mul(gate_up, Numerics::kBF16, wanted, cpu_);
  const DeviceRows input(DType::kBF16, gate_up, 3);
  DeviceRows y(DType::kBF16, 5, 301, 1);
  cuda::silu_mul(input.matrix(), y.matrix(), launch());
  stream_->synchronize();
  const Tensor got = y.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float value = wanted.data<float>()[i];
    // a step of the silu and the rounding of the product
    ASSERT_NEAR(got.data<float>()[i], value, 2 * bf16_step(value)) << i;
  }
  EXPECT_TRUE(y.padding_intact());
}

TEST_F(CudaDecodeOps, EmbeddingCopiesRows) {
  const Tensor table = bf16_input(11, 77, 1);
  const DeviceRows device_table(DType::kBF16, table);
  const DeviceIntegers tokens({10, 0, 3, 3, 11, -1});
  DeviceRows y(DType::kBF16, 6, 77, 3);
  cuda::embedding({device_table.matrix(), tokens.data(), y.matrix(), {}, nullptr}, launch());
  stream_->synchronize();
  const Tensor got = y.values();
  const int rows[] = {10, 0, 3, 3};
  for (int r = 0; r < 4; ++r) {
    EXPECT_EQ(std::memcmp(got.data<float>() + r * 77, table.data<float>() + rows[r] * 77, 77 * sizeof(float)), 0) << r;
  }
  EXPECT_TRUE(std::isnan(got.data<float>()[4 * 77]) && std::isnan(got.data<float>()[5 * 77]));
  EXPECT_TRUE(y.padding_intact());

  const Tensor pictures = bf16_input(2, 77, 2);
  const DeviceRows device_pictures(DType::kBF16, pictures);
  const DeviceIntegers picture_rows({-1, 1, -1, 0, 0, 1});
  cuda::embedding({device_table.matrix(), tokens.data(), y.matrix(), device_pictures.matrix(), picture_rows.data()},
                  launch());
  stream_->synchronize();
  const Tensor mixed = y.values();
  const float* expected[] = {table.data<float>() + 10 * 77, pictures.data<float>() + 77, table.data<float>() + 3 * 77,
                             pictures.data<float>(),        pictures.data<float>(),      pictures.data<float>() + 77};
  for (int r = 0; r < 6; ++r) {
    EXPECT_EQ(std::memcmp(mixed.data<float>() + r * 77, expected[r], 77 * sizeof(float)), 0) << r;
  }
}

TEST_F(CudaDecodeOps, InputsAreScaledAndReordered) {
  const std::int64_t cols = 300;
  const Tensor x = bf16_input(3, cols, 1), scales = testing::random_input(1, cols, 2);
  std::vector<std::int32_t> order;
  for (std::int64_t i = 0; i < cols; ++i) order.push_back(static_cast<std::int32_t>((i * 7 + 3) % cols));
  const DeviceRows input(DType::kBF16, x, 1), device_scales(DType::kF32, scales);
  const DeviceIntegers device_order(order);
  DeviceRows y(DType::kBF16, 3, cols, 2);
  cuda::arrange_input(
      {input.matrix(), static_cast<const float*>(device_scales.matrix().data), device_order.data(), y.matrix()},
      launch());
  stream_->synchronize();
  const Tensor got = y.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const std::int64_t from = order[static_cast<std::size_t>(i % cols)];
    const float value = x.data<float>()[i / cols * cols + from] * scales.data<float>()[from];
    ASSERT_EQ(got.data<float>()[i], bf16::decode(bf16::encode(value))) << i;
  }
  EXPECT_TRUE(y.padding_intact());
}

TEST_F(CudaDecodeOps, ArgmaxTakesTheFirstOfEqualsSaysTheGapAndShowsWhatIsNotFinite) {
  const std::int64_t cols = 20011;
  Tensor logits = testing::random_input(5, cols, 1);
  float* x = logits.data<float>();
  x[777] = x[778] = x[20010] = 9.0f;
  x[cols + 20010] = 9.0f;
  x[cols + 3] = 8.5f;
  x[2 * cols + 12345] = std::numeric_limits<float>::quiet_NaN();
  x[3 * cols + 1] = -std::numeric_limits<float>::infinity();
  x[4 * cols + 20000] = std::numeric_limits<float>::infinity();
  const DeviceRows device_logits(DType::kF32, logits, 1);
  DeviceRows workspace(DType::kI8, 1, cuda::argmax_workspace(5)), gaps(DType::kF32, 1, 5);
  const DeviceIntegers tokens({7, 7, 7, 7, 7});
  cuda::argmax(
      {device_logits.matrix(), workspace.matrix().data, tokens.data(), static_cast<float*>(gaps.matrix().data)},
      launch());
  stream_->synchronize();
  EXPECT_EQ(tokens.read(5), (std::vector<std::int32_t>{777, 20010, -1, -1, -1}));
  const Tensor gap = gaps.values();
  EXPECT_EQ(gap.data<float>()[0], 0.0f);
  EXPECT_EQ(gap.data<float>()[1], 0.5f);
  EXPECT_TRUE(std::isnan(gap.data<float>()[2]));
  EXPECT_TRUE(workspace.padding_intact());
  EXPECT_TRUE(gaps.padding_intact());
}

TEST_F(CudaDecodeOps, GraphsRepeatWhatTheyRecorded) {
  const Tensor gate_up = bf16_input(2, 2 * 64, 1);
  const DeviceRows input(DType::kBF16, gate_up);
  DeviceRows y(DType::kBF16, 2, 64), z(DType::kBF16, 2, 64);
  cuda::silu_mul(input.matrix(), y.matrix(), launch());
  const cuda::DeviceGraph graph(
      *stream_, [&](const cuda::Launch& recorded) { cuda::silu_mul(input.matrix(), z.matrix(), recorded); });
  graph.run(*stream_);
  stream_->synchronize();
  EXPECT_EQ(y.stored(), z.stored());
}

TEST_F(CudaDecodeOps, SayWhatDoesNotFit) {
  DeviceRows x(DType::kBF16, 2, 6), f32(DType::kF32, 2, 6);
  EXPECT_THROW(cuda::silu_mul(x.matrix(), x.matrix(), launch()), Error);
  EXPECT_THROW(cuda::argmax({x.matrix()}, launch()), Error);
  EXPECT_THROW(cuda::prepare_input({f32.matrix(), nullptr, 0, {}, x.matrix(), nullptr}, launch()), Error);
  EXPECT_THROW(cuda::DeviceArena("test", std::size_t{1} << 50), Error);
  cuda::DeviceArena arena("test", 256);
  arena.allocate(200);
  EXPECT_THROW(arena.allocate(1), Error);
}

}  // namespace
}  // namespace halftone
