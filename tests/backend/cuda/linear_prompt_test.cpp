// Products of prompts on the device: within the stated bound, the same bits for every length, and which are native.
#include "backend/cuda/linear_prompt.h"

#include "tests/backend/cuda/device_linear.h"

namespace halftone {
namespace {

using testing::all_formats;
using testing::bf16_values;
using testing::CudaLinear;
using testing::device_formats;
using testing::DeviceProduct;
using testing::error_bound;
using testing::Exact;
using testing::exact_product;
using testing::first_rows;
using testing::LinearFormat;
using testing::LinearShape;
using testing::other_formats;
using testing::quantized;
using testing::QuantizedInput;

// Those whose products on Hopper have scales of 128 inputs.
std::vector<LinearFormat> block_formats() {
  std::vector<LinearFormat> formats;
  for (const LinearFormat& format : other_formats()) {
    const bool tiles = format.name == "e4m3_tiles_x_e4m3_group" || format.name == "e4m3_tiles_x_e4m3_token";
    if (tiles || format.name.starts_with("int4_group128_x_e4m3")) formats.push_back(format);
  }
  return formats;
}

TEST_F(CudaLinear, MultipliesBlocksNativelyOnHopper) {
  if (list_cuda_devices().at(0).compute_capability != 90) GTEST_SKIP() << "not a Hopper";
  ASSERT_EQ(block_formats().size(), 5u);
  for (const LinearFormat& format : block_formats()) {
    for (const LinearShape& shape : {LinearShape{0, 1536, 8960}, LinearShape{0, 144, 400}, LinearShape{0, 16, 1536}}) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      const Tensor bias;
      const DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, format.input});
      EXPECT_EQ(cuda::linear_prompt_input(product.weight()), DType::kF8E4M3)
          << format.name << " " << shape.n << " x " << shape.k;
    }
  }
}

// The same of the library's kernels, which are chosen by the number of tokens.
TEST_F(CudaLinear, GivesAPromptsTokenTheSameBitsWhateverTheLength) {
  std::vector<LinearFormat> formats = device_formats();
  for (const LinearFormat& format : block_formats()) {  // one of tiles and one of groups, for the time that it takes
    if (format.name == "e4m3_tiles_x_e4m3_group" || format.name == "int4_group128_x_e4m3") formats.push_back(format);
  }
  for (const LinearFormat& format : formats) {
    for (const LinearShape& shape : {LinearShape{2048, 1536, 4480}, LinearShape{2048, 2048, 1536}}) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      Tensor bias;
      const bool blocks = format.spec.group == 128 && format.input.kind != InputQuant::Kind::kNone;
      if (blocks && shape.k == 1536) bias = bf16_values(testing::random_input(1, shape.n, 3)).reshape({shape.n});
      DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, format.input});
      const QuantizedInput x = quantized(bf16_values(testing::random_input(shape.m, shape.k, 6)), format.input);
      // E4M3 is rounded to bf16 by another kernel than to f32
      for (const DType type : {DType::kF32, DType::kBF16}) {
        const Tensor all = product.run(x, "cublas", type);
        for (const std::int64_t rows : {1, 65, 129, 300, 640, 1089, 1536}) {
          const Tensor some = product.run(first_rows(x, rows), "cublas", type);
          EXPECT_EQ(std::memcmp(some.raw(), all.raw(), static_cast<std::size_t>(some.nbytes())), 0)
              << format.name << " " << rows;
        }
      }
    }
  }
}

// As many tokens as several prompts together have, bf16.
TEST_F(CudaLinear, GivesAPromptsTokenTheSameBitsWhateverIsReadWithIt) {
  const QTensor weight = testing::random_weight(device_formats()[0], 1536, 1536, 5);
  const Tensor bias;
  DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, {}});
  const Tensor x = bf16_values(testing::random_input(8192, 1536, 6));
  const Tensor all = product.run(quantized(x, {}), "cublas");
  for (const std::int64_t rows : {1, 1089, 4356, 6534}) {
    const Tensor some = product.run(quantized(x.rows(0, rows), {}), "cublas");
    EXPECT_EQ(std::memcmp(some.raw(), all.raw(), static_cast<std::size_t>(some.nbytes())), 0) << rows;
  }
}

// Sums of many tokens are written piece by piece.
TEST_F(CudaLinear, GivesAPromptsTokenTheSameBitsInEveryPiece) {
  for (const LinearFormat& format : device_formats()) {
    if (format.input.kind == InputQuant::Kind::kNone) continue;
    const QTensor weight = testing::random_weight(format, 64, 256, 5);
    const Tensor bias = testing::random_input(1, 64, 3).reshape({64});
    DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, format.input});
    const Tensor x = bf16_values(testing::random_input(4500, 256, 6)),
                 residual = bf16_values(testing::random_input(4500, 64, 9));
    const Tensor all = product.run(quantized(x, format.input), "cublas", DType::kBF16, &residual);
    for (const std::int64_t begin : {0, 1900, 4096, 4200}) {
      const std::int64_t end = begin + 300;
      const Tensor added = residual.rows(begin, end);
      const Tensor some = product.run(quantized(x.rows(begin, end), format.input), "cublas", DType::kBF16, &added);
      EXPECT_EQ(std::memcmp(some.raw(), all.rows(begin, end).raw(), static_cast<std::size_t>(some.nbytes())), 0)
          << format.name << " " << begin;
    }
  }
}

// Prompts' shapes: more tokens than "decode" takes, by the library's kernels, with and without residual and bias.
TEST_F(CudaLinear, MultipliesPromptsWithinTheBound) {
  for (const LinearFormat& format : all_formats()) {
    for (const LinearShape& shape : {LinearShape{9, 24, 48}, LinearShape{130, 256, 384}, LinearShape{70, 16, 1536},
                                     LinearShape{131, 256, 384}, LinearShape{133, 144, 400}}) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      Tensor bias = bf16_values(testing::random_input(1, shape.n, 3)).reshape({shape.n});
      if (shape.m % 2 != 0) bias = Tensor();
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const QuantizedInput x = quantized(bf16_values(testing::random_input(shape.m, shape.k, 6)), format.input);
      const Tensor residual = bf16_values(testing::random_input(shape.m, shape.n, 9));
      const Exact exact = exact_product(x, weight, bias, source);
      DeviceProduct product(source);
      for (const bool adds : {false, true}) {
        const Tensor got = product.run(x, "cublas", DType::kBF16, adds ? &residual : nullptr);
        for (std::int64_t i = 0; i < got.numel(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          const double wanted = exact.y[at] + (adds ? residual.data<float>()[i] : 0.0f);
          // one or two roundings to bf16
          const double roundings = (std::fabs(wanted) + std::fabs(exact.y[at])) * 0x1p-8;
          ASSERT_NEAR(got.data<float>()[i], wanted,
                      error_bound(shape.k, exact.magnitude[at], product.weight(), "cublas") + roundings)
              << format.name << " element " << i;
        }
      }
    }
  }
}

// Tiles that belong to one part each are multiplied as they are on Hopper, others decoded; and groups of several parts.
TEST_F(CudaLinear, FusesBlocksOfParts) {
  const std::int64_t k = 400;
  for (const LinearFormat& format : block_formats()) {
    for (const Shape& rows : {Shape{256, 128, 48}, Shape{130, 126, 16}}) {
      std::vector<QTensor> parts;
      for (const std::int64_t n : rows) {
        parts.push_back(testing::random_weight(format, n, k, static_cast<std::uint64_t>(n)));
        parts.back().global_scale = static_cast<float>(n);
      }
      const std::vector<Tensor> biases(parts.size());
      const QuantizedInput x = quantized(bf16_values(testing::random_input(70, k, 6)), format.input);
      DeviceProduct product(LinearSource{parts, biases, format.input});
      const Tensor y = product.run(x, "cublas");
      std::int64_t first = 0;
      for (const QTensor& part : parts) {
        const Tensor none;
        const Exact exact = exact_product(x, part, none, LinearSource{{&part, 1}, {&none, 1}, format.input});
        for (std::int64_t i = 0; i < 70 * part.rows(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          ASSERT_NEAR(y.data<float>()[i / part.rows() * y.dim(1) + first + i % part.rows()], exact.y[at],
                      error_bound(k, exact.magnitude[at], product.weight(), "cublas"))
              << format.name << " part of " << part.rows() << ", element " << i;
        }
        first += part.rows();
      }
    }
  }
}

}  // namespace
}  // namespace halftone
