// linear() on the device, every kernel: exact on integers, within the stated bound on random numbers, the same bits for
// every M; and what it refuses. Prompts: linear_prompt_test.cpp.
#include "backend/cuda/linear.h"

#include "backend/cuda/decode_ops.h"
#include "ops/cuda_devices.h"
#include "tests/backend/cuda/device_linear.h"

namespace halftone {
namespace {

using testing::all_formats;
using testing::bf16_values;
using testing::CudaLinear;
using testing::device_formats;
using testing::device_shapes;
using testing::DeviceProduct;
using testing::DeviceRows;
using testing::error_bound;
using testing::Exact;
using testing::exact_product;
using testing::LinearFormat;
using testing::LinearShape;
using testing::other_formats;
using testing::quantized;
using testing::QuantizedInput;

TEST_F(CudaLinear, IsWithinItsBoundOfTheExactProduct) {
  for (const LinearFormat& format : all_formats()) {
    for (const LinearShape& shape : device_shapes()) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 1 + shape.k);
      const Tensor bias = shape.n % 2 ? testing::random_input(1, shape.n, 3).reshape({shape.n}) : Tensor();
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const QuantizedInput x = quantized(bf16_values(testing::random_input(shape.m, shape.k, 2)), format.input);
      const Exact exact = exact_product(x, weight, bias, source);
      DeviceProduct product(source);
      for (const std::string& kernel : product.kernels(shape.m)) {
        const Tensor y = product.run(x, kernel);
        for (std::int64_t i = 0; i < y.numel(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          ASSERT_NEAR(y.data<float>()[i], exact.y[at],
                      error_bound(shape.k, exact.magnitude[at], product.weight(), kernel))
              << format.name << " " << kernel << " [" << shape.m << " x " << shape.n << " x " << shape.k << "] element "
              << i;
        }
      }
    }
  }
}

// Integers and powers of two whose sums f32 holds exactly: no order of summation may show, no element may be missing.
TEST_F(CudaLinear, IsExactOnIntegers) {
  for (LinearFormat format : all_formats()) {
    if (format.spec.element == Element::kNF4) continue;  // its levels are no such numbers
    format.input.scale = format.input.kind == InputQuant::Kind::kNone ? 1.0f : 0.25f;
    if (format.global_scale != 1) format.global_scale = 0.5f;
    for (const LinearShape& shape : device_shapes()) {
      QTensor weight = testing::random_weight(format, shape.n, shape.k, 7);
      Random random(11);
      for (std::int64_t i = 0; weight.scales.defined() && i < weight.scales.numel(); ++i) {
        const float scale = random.below(2) || format.offsets ? 1.0f : 0.5f;
        if (weight.scales.dtype() == DType::kF32) weight.scales.data<float>()[i] = scale;
        if (weight.scales.dtype() == DType::kBF16) weight.scales.bits<std::uint16_t>()[i] = bf16::encode(scale);
        if (weight.scales.dtype() == DType::kF16) weight.scales.bits<std::uint16_t>()[i] = f16::encode(scale);
        if (weight.scales.dtype() == DType::kF8E4M3) weight.scales.bits<std::uint8_t>()[i] = e4m3::encode(scale);
        if (weight.scales.dtype() == DType::kF8E8M0) weight.scales.bits<std::uint8_t>()[i] = e8m0::encode(scale);
        if (weight.offsets.defined()) weight.offsets.data<float>()[i] = static_cast<float>(random.below(9)) - 4;
      }
      for (std::int64_t i = 0; i < weight.payload.numel(); ++i) {
        const float value = static_cast<float>(random.below(17)) - 8;
        if (weight.payload.dtype() == DType::kBF16) weight.payload.bits<std::uint16_t>()[i] = bf16::encode(value);
        if (weight.payload.dtype() == DType::kF8E4M3) weight.payload.bits<std::uint8_t>()[i] = e4m3::encode(value);
        if (weight.payload.dtype() == DType::kF8E5M2) weight.payload.bits<std::uint8_t>()[i] = e5m2::encode(value);
        if (weight.payload.dtype() == DType::kF16) weight.payload.bits<std::uint16_t>()[i] = f16::encode(value);
        if (weight.payload.dtype() == DType::kF32) weight.payload.data<float>()[i] = value;
      }
      QuantizedInput x{Tensor(DType::kF32, {shape.m, shape.k}), Tensor(DType::kF32, {shape.m}), {}, {}};
      for (std::int64_t i = 0; i < x.codes.numel(); ++i)
        x.codes.data<float>()[i] = static_cast<float>(random.below(9)) - 4;
      for (std::int64_t m = 0; m < shape.m; ++m) x.scales.data<float>()[m] = 0.5f;
      if (cuda::scales_groups(format.input.kind)) {
        x.groups = Tensor(DType::kF32, {shape.m, cuda::input_scale_count(format.input.kind, shape.k)});
        std::fill_n(x.groups.data<float>(), x.groups.numel(), 1.0f);
        x.group_codes = x.codes;
      }
      const Tensor bias;
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const Exact exact = exact_product(x, weight, bias, source);
      DeviceProduct product(source);
      for (const std::string& kernel : product.kernels(shape.m)) {
        const Tensor y = product.run(x, kernel);
        for (std::int64_t i = 0; i < y.numel(); ++i) {
          ASSERT_EQ(y.data<float>()[i], exact.y[static_cast<std::size_t>(i)])
              << format.name << " " << kernel << " [" << shape.m << " x " << shape.n << " x " << shape.k << "] element "
              << i;
        }
      }
    }
  }
}

// Of tokens alone, and of the first ones of each of `counts` together.
void expect_same_bits(const LinearFormat& format, std::int64_t n, std::int64_t k,
                      const std::vector<std::int64_t>& counts, const std::vector<std::string>& kernels) {
  const QTensor weight = testing::random_weight(format, n, k, 5);
  const Tensor bias;
  const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
  const Tensor x = bf16_values(testing::random_input(counts.back(), k, 6));
  DeviceProduct product(source);
  for (const std::string& kernel : kernels.empty() ? product.kernels(counts.back()) : kernels) {
    for (const std::int64_t count : counts) {
      const Tensor all = product.run(quantized(x.rows(0, count), format.input), kernel);
      for (const std::int64_t row : {std::int64_t{0}, std::int64_t{5}, count - 1}) {
        const Tensor one = product.run(quantized(x.rows(row, row + 1), format.input), kernel);
        EXPECT_EQ(std::memcmp(one.raw(), all.data<float>() + row * n, static_cast<std::size_t>(one.nbytes())), 0)
            << format.name << " " << kernel << " [" << n << " x " << k << "], token " << row << " of " << count;
      }
    }
  }
}

LinearFormat format_named(std::string_view name) {
  const std::vector<LinearFormat> formats = all_formats();
  const auto format = std::find_if(formats.begin(), formats.end(), [&](const auto& f) { return f.name == name; });
  if (format == formats.end()) throw std::out_of_range(std::string(name));
  return *format;
}

// Of the first weight K is split over four to sixteen warps, by the format; of the second over four.
TEST_F(CudaLinear, GivesATokenTheSameBitsWhateverElseThereIs) {
  for (const LinearFormat& format : all_formats()) {
    expect_same_bits(format, 40, 1536, {40}, {});
    expect_same_bits(format, 4260, 264, {40}, {});
  }
}

// For each kernel of several tokens: for up to eight, whose rows are too long, or the weight's too many, for that of one; for
// 32; for 64 or twice 32.
const std::vector<std::int64_t> kCounts = {7, 19, 50};

// Where K is split over sixteen warps, so over the blocks of a cluster.
TEST_F(CudaLinear, GivesATokenTheSameBitsWhereClustersShareK) {
  for (const std::string_view name : {"bf16", "int8", "int8_x_int8_token", "e4m3_channel_x_e4m3_token", "int4_group128",
                                      "int4_group32", "nf4_group64"}) {
    expect_same_bits(format_named(name), 1600, 6144, kCounts, {"decode"});
  }
}

// Where there are many rows; K is split over four warps, of the last two weights over eight.
TEST_F(CudaLinear, GivesATokenTheSameBitsWhereRowsAreMany) {
  for (const std::string_view name : {"bf16", "int8", "int8_x_int8_token", "e4m3_tensor", "e4m3_channel_x_e4m3_token",
                                      "int4_group128_zeros", "int4_channel", "int4_group32", "nf4_group64"}) {
    expect_same_bits(format_named(name), 17012, 264, kCounts, {"decode"});
  }
  expect_same_bits(format_named("bf16"), 17012, 2088, kCounts, {"decode"});
  expect_same_bits(format_named("int8_x_int8_token"), 17012, 4104, kCounts, {"decode"});
}

TEST_F(CudaLinear, MultipliesInt8ByInt8WithTheBitsOfTheCpu) {
  for (const LinearFormat& format : all_formats()) {
    const QTensor weight = testing::random_weight(format, 33, 1024, 5);
    if (!sums_integers(format.spec, format.input) || weight.spec.granularity == Granularity::kGroup) continue;
    const Tensor bias = testing::random_input(1, 33, 3).reshape({33});
    const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
    const Tensor x = bf16_values(testing::random_input(4, 1024, 6));
    Tensor wanted(DType::kF32, {4, 33});
    linear_reference(x, weight, bias, format.input, wanted);
    DeviceProduct product(source);
    for (const std::string& kernel : product.kernels(4)) {
      const Tensor y = product.run(quantized(x, format.input), kernel);
      EXPECT_EQ(std::memcmp(y.raw(), wanted.raw(), static_cast<std::size_t>(y.nbytes())), 0)
          << format.name << " " << kernel;
    }
  }
}

void expect_residual_is_added(std::int64_t n, std::int64_t k, std::int64_t m, const std::vector<std::string>& kernels) {
  const QTensor weight = testing::random_weight(format_named("bf16"), n, k, 5);
  const Tensor bias;
  DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, {}});
  const QuantizedInput x = quantized(bf16_values(testing::random_input(m, k, 6)), {});
  const Tensor residual = bf16_values(testing::random_input(m, n, 9));
  for (const std::string& kernel : kernels.empty() ? product.kernels(m) : kernels) {
    const Tensor plain = product.run(x, kernel), sum = product.run(x, kernel, DType::kBF16, &residual);
    for (std::int64_t i = 0; i < sum.numel(); ++i) {
      const float rounded = bf16::round(plain.data<float>()[i]);
      ASSERT_EQ(sum.data<float>()[i], bf16::round(rounded + residual.data<float>()[i]))
          << kernel << " [" << m << " x " << n << " x " << k << "] element " << i;
    }
  }
}

// Of the second weight clusters share K.
TEST_F(CudaLinear, RoundsThenAddsTheResidual) {
  for (const std::int64_t m : {3, 40}) expect_residual_is_added(24, 96, m, {});
  for (const std::int64_t m : kCounts) expect_residual_is_added(1600, 6144, m, {"decode"});
}

void expect_gates_times_values(const LinearFormat& format, std::int64_t n, std::int64_t k, std::int64_t m) {
  const QTensor weight = testing::random_weight(format, n, k, 5);
  const Tensor bias = testing::random_input(1, n, 3).reshape({n});
  const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
  const QuantizedInput x = quantized(bf16_values(testing::random_input(m, k, 6)), format.input);
  DeviceProduct product(source);
  if (product.kernels(m)[0] != "decode") return;
  cuda::DeviceStream stream;
  const DeviceRows decoded(DType::kBF16, product.run(x, "decode", DType::kBF16));
  DeviceRows wanted(DType::kBF16, m, n / 2);
  cuda::silu_mul(decoded.matrix(), wanted.matrix(), stream.launch());
  stream.synchronize();
  const Tensor got = product.run(x, "decode", DType::kBF16, nullptr, true), expected = wanted.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float a = got.data<float>()[i], b = expected.data<float>()[i];
    ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b)))
        << format.name << " [" << m << " x " << n << " x " << k << "] element " << i << ": " << a << ", not " << b;
  }
}

// The last two weights have many rows; of one clusters share K.
TEST_F(CudaLinear, MultipliesGatesWithValuesAsTheOpDoes) {
  for (const LinearFormat& format : all_formats()) {
    for (const std::int64_t m : {5, 40}) expect_gates_times_values(format, 48, 640, m);
  }
  for (const std::int64_t m : kCounts) {
    expect_gates_times_values(format_named("int4_group128"), 17040, 264, m);
    expect_gates_times_values(format_named("bf16"), 17040, 2088, m);
  }
}

TEST_F(CudaLinear, PreparesItsInputWithTheBitsOfTheOp) {
  const LinearShape shapes[] = {{1, 17, 1536}, {2, 24, 515}, {2, 16, 3584}, {2, 9, 8}, {1, 40, 8960}};
  for (const LinearFormat& format : all_formats()) {
    for (const LinearShape& shape : shapes) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      const Tensor none;
      DeviceProduct product(LinearSource{{&weight, 1}, {&none, 1}, format.input});
      if (product.kernels(shape.m)[0] != "decode" || cuda::scales_groups(format.input.kind)) continue;
      const Tensor x = bf16_values(testing::random_input(shape.m, shape.k, 6));
      const DeviceRows norm(DType::kF32, testing::random_input(1, shape.k, 7));
      for (const float* w : {static_cast<const float*>(norm.matrix().data), static_cast<const float*>(nullptr)}) {
        const Tensor got = product.run_preparing(x, w, true), wanted = product.run_preparing(x, w, false);
        ASSERT_EQ(std::memcmp(got.raw(), wanted.raw(), static_cast<std::size_t>(got.nbytes())), 0)
            << format.name << " " << shape.m << " x " << shape.k << (w ? " with a norm" : "");
      }
    }
  }
}

// q, k and v as one product: parts that end within a tile, with scales and factors of their own.
TEST_F(CudaLinear, FusesWeightsThatShareTheirInput) {
  for (const LinearFormat& format : all_formats()) {
    const std::vector<QTensor> parts = {testing::random_weight(format, 13, 384, 1),
                                        testing::random_weight(format, 3, 384, 2),
                                        testing::random_weight(format, 20, 384, 3)};
    const std::vector<Tensor> biases(3);
    const QuantizedInput x = quantized(bf16_values(testing::random_input(2, 384, 6)), format.input);
    DeviceProduct fused(LinearSource{parts, biases, format.input});
    for (const std::string& kernel : fused.kernels(2)) {
      if (kernel == "cublas") continue;  // its algorithm, and so its order of summation, hangs on the number of rows
      const Tensor y = fused.run(x, kernel);
      std::int64_t first = 0;
      for (const QTensor& part : parts) {
        const Tensor none;
        DeviceProduct alone(LinearSource{{&part, 1}, {&none, 1}, format.input});
        const Tensor wanted = alone.run(x, kernel);
        for (std::int64_t m = 0; m < 2; ++m) {
          for (std::int64_t n = 0; n < part.rows(); ++n) {
            ASSERT_EQ(y.data<float>()[m * 36 + first + n], wanted.data<float>()[m * part.rows() + n])
                << format.name << " " << kernel;
          }
        }
        first += part.rows();
      }
    }
  }
}

// Which formats have a kernel for decoding: that none falls back to the general one by mistake.
TEST_F(CudaLinear, DecodesByKernelsOfTheirOwn) {
  for (const LinearFormat& format : all_formats()) {
    const QTensor weight = testing::random_weight(format, 24, 640, 1);
    const Tensor none;
    const DeviceProduct product(LinearSource{{&weight, 1}, {&none, 1}, format.input});
    const bool shifted = format.offsets || (format.zeros && format.spec.element != Element::kInt4);
    const bool general = shifted || format.name == "int4_channel_zeros" || format.name == "int8_group20" ||
                         format.name == "e2m1_channel" || format.name == "e4m3_channel_x_e4m3_group" ||
                         format.name == "int4_group128_x_e4m3_group" || format.name == "nf4_group128" ||
                         format.name == "f16" || format.name == "f32";
    EXPECT_EQ(product.kernels(2)[0] == "decode", !general) << format.name;
    EXPECT_EQ(cuda::linear_decodes(product.weight()), !general) << format.name;
  }
}

TEST_F(CudaLinear, RefusesWhatDoesNotFit) {
  const Tensor none;
  QTensor nan_scale = testing::random_weight(other_formats()[0], 8, 16, 1);
  nan_scale.scales.bits<std::uint8_t>()[3] = 0x7f;
  EXPECT_THROW(DeviceProduct(LinearSource{{&nan_scale, 1}, {&none, 1}, {}}), Error);
  QTensor nan = testing::random_weight(device_formats()[13], 8, 16, 1);
  nan.payload.bits<std::uint8_t>()[17] = 0xff;
  EXPECT_THROW(DeviceProduct(LinearSource{{&nan, 1}, {&none, 1}, {}}), Error);
  const QTensor weight = testing::random_weight(device_formats()[0], 8, 16, 1);
  DeviceProduct product(LinearSource{{&weight, 1}, {&none, 1}, {}});
  EXPECT_THROW(product.run(quantized(testing::random_input(1, 17, 1), {}), "any"), Error);
  EXPECT_THROW(product.run(quantized(testing::random_input(1, 16, 1), {}), "unknown"), Error);
  EXPECT_THROW(product.run(quantized(testing::random_input(65, 16, 1), {}), "decode"), Error);
}

}  // namespace
}  // namespace halftone
