// Inputs of products on the device, normed and quantized, against the CPU, among NaN and with odd strides.
#include "backend/cuda/prepare_input.h"

#include "backend/cuda/decode_ops.h"
#include "ops/elementwise.h"
#include "ops/linear_kernels.h"
#include "tests/backend/cuda/paged_cache.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

using testing::bf16_input;
using testing::bf16_step;
using testing::CudaDecodeOps;
using testing::DeviceRows;

TEST_F(CudaDecodeOps, NormIsWithinAStepOfTheCpu) {
  for (const std::int64_t cols : {1, 7, 64, 1536, 3585}) {
    const Tensor x = bf16_input(3, cols, 1), w = testing::random_input(1, cols, 2).reshape({cols});
    Tensor wanted(DType::kF32, {3, cols});
    rms_norm(x, w, 1e-6f, Numerics::kBF16, wanted, cpu_);
    const DeviceRows input(DType::kBF16, x, 3), weight(DType::kF32, w.reshape({1, cols}));
    DeviceRows y(DType::kBF16, 3, cols, 5);
    cuda::prepare_input(
        {input.matrix(), static_cast<const float*>(weight.matrix().data), 1e-6f, {}, y.matrix(), nullptr}, launch());
    stream_->synchronize();
    const Tensor got = y.values();
    for (std::int64_t i = 0; i < got.numel(); ++i) {
      const float value = wanted.data<float>()[i];
      ASSERT_NEAR(got.data<float>()[i], value, bf16_step(value)) << cols << " columns, element " << i;
    }
    EXPECT_TRUE(y.padding_intact());
  }
}

TEST_F(CudaDecodeOps, InputsGetTheCodesOfTheCpu) {
  using enum InputQuant::Kind;
  for (const InputQuant& input : {InputQuant{kStaticInt8, 0.011f}, InputQuant{kStaticE4M3, 0.003f},
                                  InputQuant{kDynamicInt8}, InputQuant{kDynamicE4M3}}) {
    for (const std::int64_t cols : {1, 31, 1536}) {
      Tensor x = bf16_input(4, cols, 3);
      for (std::int64_t i = 0; i < cols; ++i) x.data<float>()[2 * cols + i] = 0;
      Tensor codes(DType::kF32, x.shape()), scales(DType::kF32, {4});
      quantize_input_reference(x, input, codes, scales);
      const DeviceRows device_x(DType::kBF16, x, 1);
      for (const DType type : {DType::kBF16, DType::kI8, DType::kF8E4M3}) {
        if (type != DType::kBF16 && is_int8(input.kind) != (type == DType::kI8)) continue;
        DeviceRows y(type, 4, cols, 2), s(DType::kF32, 4, 1);
        auto* token_scales = scales_tokens(input.kind) ? static_cast<float*>(s.matrix().data) : nullptr;
        cuda::prepare_input({device_x.matrix(), nullptr, 0, input, y.matrix(), token_scales}, launch());
        stream_->synchronize();
        const Tensor got = y.values(), got_scales = s.values();
        for (std::int64_t i = 0; i < got.numel(); ++i) ASSERT_EQ(got.data<float>()[i], codes.data<float>()[i]) << i;
        for (std::int64_t m = 0; token_scales && m < 4; ++m) {
          EXPECT_EQ(got_scales.data<float>()[m], scales.data<float>()[m]);
        }
        EXPECT_TRUE(y.padding_intact());
      }
    }
  }
}

// Rows at multiples of 16 bytes, which are read once, and others; with a norm and without.
TEST_F(CudaDecodeOps, InputsGetTheSameCodesWhereverRowsBegin) {
  using enum InputQuant::Kind;
  for (const InputQuant& input :
       {InputQuant{}, InputQuant{kStaticE4M3, 0.003f}, InputQuant{kDynamicInt8}, InputQuant{kDynamicE4M3}}) {
    for (const std::int64_t cols : {8, 1536, 3584, 4608, 8960, 20480}) {
      const Tensor x = bf16_input(3, cols, 3);
      const DeviceRows aligned_x(DType::kBF16, x, 8), odd_x(DType::kBF16, x, 3),
          norm(DType::kF32, testing::random_input(1, cols, 7));
      for (const float* w : {static_cast<const float*>(norm.matrix().data), static_cast<const float*>(nullptr)}) {
        std::vector<std::vector<std::uint8_t>> codes, scales;
        for (const DeviceRows* rows : {&aligned_x, &odd_x}) {
          DeviceRows y(DType::kBF16, 3, cols, 8), s(DType::kF32, 3, 1);
          auto* token_scales = scales_tokens(input.kind) ? static_cast<float*>(s.matrix().data) : nullptr;
          cuda::prepare_input({rows->matrix(), w, 1e-6f, input, y.matrix(), token_scales}, launch());
          stream_->synchronize();
          EXPECT_TRUE(y.padding_intact());
          codes.push_back(y.stored());
          scales.push_back(s.stored());
        }
        EXPECT_TRUE(codes[0] == codes[1] && scales[0] == scales[1])
            << cols << " columns, kind " << static_cast<int>(input.kind) << (w ? ", with a norm" : "");
      }
    }
  }
}

// Gates and values whose product is quantized at once get the codes that the two ops give.
TEST_F(CudaDecodeOps, GatesAreQuantizedAsTheOpsDoIt) {
  using enum InputQuant::Kind;
  for (const InputQuant& input : {InputQuant{kStaticE4M3, 0.003f}, InputQuant{kDynamicInt8}, InputQuant{kDynamicE4M3},
                                  InputQuant{kDynamicE4M3Group}, InputQuant{kDynamicNvfp4, 0.0011f}}) {
    for (const std::int64_t cols : {31, 1536, 8960, 18944}) {
      for (const std::int64_t padding : {std::int64_t{3}, 16 - 2 * cols % 8}) {
        const DeviceRows gate_up(DType::kBF16, bf16_input(3, 2 * cols, 3), padding);
        DeviceRows product(DType::kBF16, 3, cols, padding), wanted(DType::kBF16, 3, cols), got(DType::kBF16, 3, cols),
            wanted_scales(DType::kF32, 3, 1), got_scales(DType::kF32, 3, 1);
        const auto scales = [&](const DeviceRows& rows) {
          return scales_tokens(input.kind) ? static_cast<float*>(rows.matrix().data) : nullptr;
        };
        cuda::silu_mul(gate_up.matrix(), product.matrix(), launch());
        cuda::prepare_input({product.matrix(), nullptr, 0, input, wanted.matrix(), scales(wanted_scales)}, launch());
        cuda::prepare_input({gate_up.matrix(), nullptr, 0, input, got.matrix(), scales(got_scales), true}, launch());
        stream_->synchronize();
        EXPECT_TRUE(got.stored() == wanted.stored() && got_scales.stored() == wanted_scales.stored())
            << cols << " columns, kind " << static_cast<int>(input.kind) << ", padding " << padding;
        EXPECT_TRUE(got.padding_intact());
      }
    }
  }
}

// Blocks that bf16 holds, and groups of 128 as codes and scales; a token of zeros, one that is not finite, one of NaN.
TEST_F(CudaDecodeOps, BlocksOfInputsGetTheValuesOfTheCpu) {
  using enum InputQuant::Kind;
  for (const InputQuant& input :
       {InputQuant{kDynamicNvfp4, 0.0011f}, InputQuant{kDynamicNvfp4, 900.0f, true}, InputQuant{kDynamicMxfp8},
        InputQuant{kDynamicMxfp8, 1.0f, true}, InputQuant{kDynamicMxfp4}, InputQuant{kDynamicMxfp4, 1.0f, true},
        InputQuant{kDynamicE4M3Group}}) {
    for (const std::int64_t cols : {1, 31, 136, 257, 1536}) {
      Tensor x = bf16_input(5, cols, 3);
      for (std::int64_t i = 0; i < cols; ++i) x.data<float>()[2 * cols + i] = 0;
      x.data<float>()[3 * cols + cols / 2] = std::numeric_limits<float>::infinity();
      x.data<float>()[4 * cols + cols / 2] = std::numeric_limits<float>::quiet_NaN();
      Tensor wanted(DType::kF32, x.shape()), unused(DType::kF32, {5});
      quantize_input_reference(x, input, wanted, unused);
      const DeviceRows device_x(DType::kBF16, x, 1);
      const std::int64_t count = cuda::input_scale_count(input.kind, cols);
      DeviceRows y(DType::kBF16, 5, cols, 2), scales(DType::kF32, 5, count);
      const bool groups = cuda::scales_groups(input.kind);
      auto* group_scales = groups ? static_cast<float*>(scales.matrix().data) : nullptr;
      cuda::prepare_input({device_x.matrix(), nullptr, 0, input, y.matrix(), group_scales}, launch());
      stream_->synchronize();
      const Tensor got = y.values(), got_scales = scales.values();
      for (std::int64_t i = 0; i < got.numel(); ++i) {
        const std::int64_t group = i / cols * count + i % cols / 128;
        const float value = got.data<float>()[i] * (groups ? got_scales.data<float>()[group] : 1.0f);
        const float expected = wanted.data<float>()[i];
        ASSERT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected)))
            << static_cast<int>(input.kind) << ": " << cols << " columns, element " << i << ": " << value << ", not "
            << expected;
      }
      EXPECT_TRUE(y.padding_intact());
      if (!groups) continue;
      DeviceRows bytes(DType::kF8E4M3, 5, cols, 3), again(DType::kF32, 5, count);
      cuda::prepare_input(
          {device_x.matrix(), nullptr, 0, input, bytes.matrix(), static_cast<float*>(again.matrix().data)}, launch());
      stream_->synchronize();
      const Tensor codes = bytes.values();
      EXPECT_EQ(std::memcmp(codes.raw(), got.raw(), static_cast<std::size_t>(got.nbytes())), 0) << cols;
      EXPECT_TRUE(again.stored() == scales.stored() && bytes.padding_intact()) << cols;
      cuda::prepare_input({device_x.matrix(), nullptr, 0, input, y.matrix(), nullptr}, launch());
      stream_->synchronize();
      const Tensor whole = y.values();
      for (std::int64_t i = 0; i < whole.numel(); ++i) {
        const float expected = bf16::round(wanted.data<float>()[i]), value = whole.data<float>()[i];
        ASSERT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected))) << cols << " element " << i;
      }
    }
  }
}

}  // namespace
}  // namespace halftone
