// linear(): every kernel against the scalar reference, bit for bit, for every format, input quantization and odd shape.
#include "ops/linear.h"

#include <gtest/gtest.h>

#include <cstring>

#include "backend/cpu/input_words.h"
#include "tests/ops/linear_cases.h"
#include "tests/ops/targets.h"

namespace halftone {
namespace {

using testing::LinearFormat;
using testing::LinearShape;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// x inside a larger buffer of NaN: a kernel that reads outside its input shows.
struct GuardedInput {
  GuardedInput(const Tensor& x) : memory(std::make_shared<std::vector<float>>(x.numel() + 2 * kGuard, kNan)) {
    std::memcpy(memory->data() + kGuard, x.raw(), static_cast<std::size_t>(x.nbytes()));
    tensor = Tensor::borrow(DType::kF32, x.shape(), memory->data() + kGuard, memory);
  }
  static constexpr std::int64_t kGuard = 64;
  std::shared_ptr<std::vector<float>> memory;
  Tensor tensor;
};

// y in front of a guard that must stay as it is.
struct GuardedOutput {
  GuardedOutput(std::int64_t m, std::int64_t n) : memory(std::make_shared<std::vector<float>>(m * n + 64, kNan)) {
    tensor = Tensor::borrow(DType::kF32, {m, n}, memory->data(), memory);
  }
  bool guard_intact() const {
    for (std::size_t i = memory->size() - 64; i < memory->size(); ++i) {
      if (!std::isnan((*memory)[i])) return false;
    }
    return true;
  }
  std::shared_ptr<std::vector<float>> memory;
  Tensor tensor;
};

void expect_equal_bits(const Tensor& got, const Tensor& wanted, const std::string& what) {
  ASSERT_EQ(got.shape(), wanted.shape());
  if (std::memcmp(got.raw(), wanted.raw(), static_cast<std::size_t>(got.nbytes())) == 0) return;
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float a = got.data<float>()[i], b = wanted.data<float>()[i];
    ASSERT_EQ(std::bit_cast<std::uint32_t>(a), std::bit_cast<std::uint32_t>(b))
        << what << ": element " << i << " is " << a << ", the reference says " << b;
  }
}

void check_case(const LinearFormat& format, const InputQuant& input, const LinearShape& shape) {
  const QTensor weight = testing::random_weight(format, shape.n, shape.k, 1 + shape.k);
  const GuardedInput x(testing::random_input(shape.m, shape.k, 2));
  const Tensor bias = shape.n % 2 ? testing::random_input(1, shape.n, 3).reshape({shape.n}) : Tensor();
  Tensor wanted(DType::kF32, {shape.m, shape.n});
  linear_reference(x.tensor, weight, bias, input, wanted);
  for (const std::string& kernel : list_linear_kernels(format.spec, input)) {
    for (const int threads : {1, 2}) {
      if (kernel == "reference" && threads > 1) continue;
      ThreadPool pool(threads);
      Stream stream{&pool, Device::kCpu};
      GuardedOutput y(shape.m, shape.n);
      linear(x.tensor, *pack_linear(weight, bias, input, stream, kernel), y.tensor, stream);
      expect_equal_bits(y.tensor, wanted,
                        fmt::format("{}{} {} [{} x {} x {}] on {} threads", format.name,
                                    testing::input_name(input.kind), kernel, shape.m, shape.n, shape.k, threads));
      EXPECT_TRUE(y.guard_intact());
    }
  }
}

TEST(Linear, EveryKernelGivesTheBitsOfTheReference) {
  for_each_target([] {
    for (const LinearFormat& format : testing::weight_formats()) {
      for (const InputQuant& input : testing::input_quantizations()) {
        for (const LinearShape& shape : testing::odd_shapes()) {
          check_case(format, input, shape);
          if (HasFatalFailure()) return;
        }
      }
    }
  });
}

// Several blocks of K, several blocks of rows, several pieces of panels.
TEST(Linear, LargeShapes) {
  for_each_target([] {
    for (const LinearFormat& format : testing::weight_formats()) {
      check_case(format, {}, {29, 150, 1153});
      check_case(format, {InputQuant::Kind::kStaticInt8, 0.02f}, {14, 33, 2310});
      if (HasFatalFailure()) return;
    }
    check_case(testing::weight_formats()[2], {}, {500, 10, 300});
  });
}

// A row of y depends on its row of x alone.
TEST(Linear, RowsDoNotDependOnTheBatch) {
  for_each_target([] {
    constexpr std::int64_t kRows = 37, kOutputs = 100, kInputs = 384;
    for (const LinearFormat& format : testing::weight_formats()) {
      for (const InputQuant& input : testing::input_quantizations()) {
        Stream& stream = default_stream();
        const auto packed = pack_linear(testing::random_weight(format, kOutputs, kInputs, 5), {}, input, stream);
        const Tensor x = testing::random_input(kRows, kInputs, 6);
        Tensor all(DType::kF32, {kRows, kOutputs});
        linear(x, *packed, all, stream);
        for (const std::int64_t batch : {1, 2, 3, 4, 5, 8, 36}) {
          Tensor some(DType::kF32, {batch, kOutputs});
          linear(x.rows(kRows - batch, kRows), *packed, some, stream);
          expect_equal_bits(some, all.rows(kRows - batch, kRows), format.name);
          if (HasFatalFailure()) return;
        }
      }
    }
  });
}

TEST(Linear, FusedPartsKeepTheirScalesAndBiases) {
  for (LinearFormat format : testing::weight_formats()) {
    std::vector<QTensor> weights;
    std::vector<Tensor> biases;
    for (const std::int64_t rows : {24, 8, 19}) {
      if (!format.offsets) format.global_scale += 0.5f;
      weights.push_back(testing::random_weight(format, rows, 160, 7 + rows));
      biases.push_back(rows == 8 ? Tensor() : testing::random_input(1, rows, 8).reshape({rows}));
    }
    const Tensor x = testing::random_input(7, 160, 9);
    Tensor fused(DType::kF32, {7, 51});
    linear(x, *pack_linear_fused(weights, biases, {}, default_stream()), fused, default_stream());
    std::int64_t column = 0;
    for (std::size_t part = 0; part < weights.size(); ++part) {
      Tensor wanted(DType::kF32, {7, weights[part].rows()});
      linear_reference(x, weights[part], biases[part], {}, wanted);
      for (std::int64_t i = 0; i < wanted.numel(); ++i) {
        const std::int64_t m = i / weights[part].rows(), n = i % weights[part].rows();
        ASSERT_EQ(fused.data<float>()[m * 51 + column + n], wanted.data<float>()[i]) << format.name;
      }
      column += weights[part].rows();
    }
  }
}

// x as the kernels read it against quantize_input_reference, bit for bit: every size, ties, zero, infinity, short
// blocks.
TEST(Linear, StagedInputsEqualTheReference) {
  for_each_target([] {
    for (const auto& [cols, with_special] : {std::pair{1, true},
                                             {15, true},
                                             {16, true},
                                             {47, true},
                                             {400, true},
                                             {1, false},
                                             {33, false},
                                             {130, false},
                                             {400, false}}) {
      Tensor x = testing::random_input(1, cols, 4);
      for (std::int64_t i = 0; i < cols && with_special; ++i) {
        constexpr float special[] = {0.0f, -0.0f, INFINITY, -1e-30f, 2.5f, -0.25f, 1e30f};
        if (i % 3 == 0) x.data<float>()[i] = special[i / 3 % 7];
        if (i % 3 == 1) x.data<float>()[i] = std::exp2(x.data<float>()[i] * 20) * (i % 2 ? 1.0f : -1.0f);
      }
      for (InputQuant input : testing::input_quantizations()) {
        for (const float static_scale : {input.scale, 1.0f, 0.25f}) {
          input.scale = static_scale;
          Tensor wanted(DType::kF32, x.shape()), scales(DType::kF32, {1});
          quantize_input_reference(x, input, wanted, scales);
          const std::int64_t padded = (cols + 3) / 4 * 4;
          Tensor words(DType::kF32, {1, padded});
          const float scale =
              stage_row(x.data<float>(), cols, padded, input, PanelArithmetic::kF32, words.bits<std::uint32_t>());
          const float wanted_scale = scales.data<float>()[0];
          ASSERT_TRUE(scale == wanted_scale || (std::isnan(scale) && std::isnan(wanted_scale)));
          for (std::int64_t i = 0; i < padded; ++i) {
            const float expected = i < cols ? wanted.data<float>()[i] : 0.0f;
            if (std::isnan(expected) && std::isnan(words.data<float>()[i])) continue;
            ASSERT_EQ(words.bits<std::uint32_t>()[i], std::bit_cast<std::uint32_t>(expected))
                << testing::input_name(input.kind) << " of " << x.data<float>()[i] << " is " << words.data<float>()[i]
                << ", the reference says " << expected;
          }
        }
      }
    }
  });
}

// By token, by group and by MX block: the scales by hand.
TEST(Linear, DynamicScalesByHand) {
  Tensor x = Tensor::zeros(DType::kF32, {2, 160});
  x.data<float>()[3] = -255.0f;
  x.data<float>()[40] = 1.0f;
  x.data<float>()[70] = 6.5f;
  x.data<float>()[71] = 1.5f;
  x.data<float>()[130] = 0.75f;
  Tensor codes(DType::kF32, x.shape()), scales(DType::kF32, {2});
  const float* got = codes.data<float>();
  quantize_input_reference(x, {InputQuant::Kind::kDynamicInt8, 1.0f}, codes, scales);
  EXPECT_EQ(scales.data<float>()[0], 2.0f);
  EXPECT_EQ(scales.data<float>()[1], 0x1p-23f);  // a token of zeros
  EXPECT_EQ(got[3], -128.0f);                    // -127.5 goes to the even -128
  EXPECT_EQ(got[40], 0.0f);                      // 0.5 goes to 0
  quantize_input_reference(x, {InputQuant::Kind::kDynamicE4M3, 1.0f}, codes, scales);
  EXPECT_EQ(scales.data<float>()[0], 255.0f / 448);
  EXPECT_EQ(got[3], -448.0f);
  EXPECT_EQ(got[40], 1.75f);  // 1.757
  quantize_input_reference(x, {InputQuant::Kind::kDynamicE4M3Group, 1.0f}, codes, scales);
  EXPECT_EQ(scales.data<float>()[0], 1.0f);
  EXPECT_EQ(got[40], 1.75f * (255.0f / 448));
  EXPECT_EQ(got[130], 448 * (0.75f / 448));
  quantize_input_reference(x, {InputQuant::Kind::kDynamicMxfp4, 1.0f}, codes, scales);
  EXPECT_EQ(got[3], -256.0f);  // the scale 64: 3.98 becomes 4
  EXPECT_EQ(got[40], 1.0f);    // the scale 1/4: 4
  EXPECT_EQ(got[71], 2.0f);    // the scale 2, for 6.5: 0.75 goes to the even 1
  EXPECT_EQ(got[130], 0.75f);  // the scale 1/8: 6
  quantize_input_reference(x, {InputQuant::Kind::kDynamicMxfp4, 1.0f, true}, codes, scales);
  EXPECT_EQ(got[70], 6.0f);  // compressed-tensors has the scale 1 up to 7
  EXPECT_EQ(got[71], 1.5f);
  quantize_input_reference(x, {InputQuant::Kind::kDynamicMxfp8, 1.0f}, codes, scales);
  EXPECT_EQ(got[3], -256.0f);
  EXPECT_EQ(got[130], 0.75f);
}

// Not a number in a token makes its outputs not a number, and those of no other token.
TEST(Linear, DynamicInputsKeepNan) {
  const LinearFormat format = testing::weight_formats()[3];
  const QTensor weight = testing::random_weight(format, 19, 64, 1);
  for (const InputQuant& input : testing::input_quantizations()) {
    if (input.kind == InputQuant::Kind::kNone || has_static_scale(input.kind)) continue;
    for (const std::string& kernel : list_linear_kernels(format.spec, input)) {
      Tensor x = testing::random_input(2, 64, 2);
      x.data<float>()[7] = kNan;
      Tensor y(DType::kF32, {2, 19});
      linear(x, *pack_linear(weight, {}, input, default_stream(), kernel), y, default_stream());
      EXPECT_TRUE(std::isnan(y.data<float>()[0])) << testing::input_name(input.kind) << " " << kernel;
      EXPECT_FALSE(std::isnan(y.data<float>()[19])) << testing::input_name(input.kind) << " " << kernel;
    }
  }
}

// y = 3 * ((2 - 1) * 0.5 + 10) + 4 * ((-3 - 1) * 0.5 + 10): the offset belongs to the weight.
TEST(Linear, OffsetsByHand) {
  QTensor weight;
  weight.spec = {Element::kInt8, Granularity::kChannel, 0, false, true};
  weight.shape = {1, 2};
  weight.payload = Tensor(DType::kI8, {1, 2});
  weight.payload.data<std::int8_t>()[0] = 2;
  weight.payload.data<std::int8_t>()[1] = -3;
  weight.scales = Tensor::from({0.5f}, {1});
  weight.zeros = Tensor(DType::kI8, {1});
  weight.zeros.data<std::int8_t>()[0] = 1;
  Tensor y(DType::kF32, {1, 1});
  linear_reference(Tensor::from({3, 4}, {1, 2}), weight, {}, {}, y);
  EXPECT_EQ(y.data<float>()[0], (3 - 4 * 4) * 0.5f);
  weight.offsets = Tensor::from({10.0f}, {1});
  linear_reference(Tensor::from({3, 4}, {1, 2}), weight, {}, {}, y);
  EXPECT_EQ(y.data<float>()[0], 3 * 10.5f + 4 * 8.0f);
}

// The reference itself, by hand: (1 * 2 + 2 * -3) * 0.5 * (0.25 * 4) + 10 = 8.
TEST(Linear, ReferenceByHand) {
  QTensor weight;
  weight.spec = {Element::kInt8, Granularity::kChannel, 0};
  weight.shape = {1, 2};
  weight.payload = Tensor(DType::kI8, {1, 2});
  weight.payload.data<std::int8_t>()[0] = 2;
  weight.payload.data<std::int8_t>()[1] = -3;
  weight.scales = Tensor::from({0.5f}, {1});
  weight.global_scale = 4.0f;
  const InputQuant input{InputQuant::Kind::kStaticInt8, 0.25f};
  Tensor y(DType::kF32, {1, 1});
  linear_reference(Tensor::from({0.25f, 0.5f}, {1, 2}), weight, Tensor::from({10.0f}, {1}), input, y);
  EXPECT_EQ(y.data<float>()[0], 8.0f);
}

// -128 * -128 at every k: sums of int16 would saturate, sums of int32 do not.
TEST(Linear, ExtremeIntegersAreExact) {
  constexpr std::int64_t kInputs = 8960;
  const LinearFormat format{"int8", {Element::kInt8, Granularity::kTensor, 0}, DType::kF32, 1.0f, {}};
  QTensor weight = testing::random_weight(format, 17, kInputs, 1);
  std::memset(weight.payload.raw(), 0x80, static_cast<std::size_t>(weight.payload.nbytes()));
  weight.scales = Tensor::from({1.0f}, {1});
  const InputQuant input{InputQuant::Kind::kStaticInt8, 1.0f};
  for (const std::int64_t rows : {1, 7}) {
    const Tensor x = Tensor::from(std::vector<float>(static_cast<std::size_t>(rows * kInputs), -1e9f), {rows, kInputs});
    for (const std::string& kernel : list_linear_kernels(format.spec, input)) {
      Tensor y(DType::kF32, {rows, 17});
      linear(x, *pack_linear(weight, {}, input, default_stream(), kernel), y, default_stream());
      for (std::int64_t i = 0; i < y.numel(); ++i) ASSERT_EQ(y.data<float>()[i], 16384.0f * kInputs) << kernel;
    }
  }
}

TEST(Linear, NanCodesOfE4m3StayNan) {
  const LinearFormat format{"e4m3", {Element::kE4M3, Granularity::kTensor, 0}, DType::kF32, 1.0f, {}};
  QTensor weight = testing::random_weight(format, 3, 8, 1);
  weight.payload.bits<std::uint8_t>()[9] = 0x7f;
  for (const std::string& kernel : list_linear_kernels(format.spec, {})) {
    Tensor y(DType::kF32, {1, 3});
    linear(testing::random_input(1, 8, 2), *pack_linear(weight, {}, {}, default_stream(), kernel), y, default_stream());
    EXPECT_FALSE(std::isnan(y.data<float>()[0])) << kernel;
    EXPECT_TRUE(std::isnan(y.data<float>()[1])) << kernel;
  }
}

TEST(Linear, RefusesWhatDoesNotFit) {
  Stream& stream = default_stream();
  const LinearFormat format = testing::weight_formats()[3];
  const QTensor weight = testing::random_weight(format, 4, 8, 1);
  EXPECT_THROW(pack_linear(weight, Tensor(DType::kF32, {3}), {}, stream), Error);
  EXPECT_THROW(pack_linear(weight, {}, {}, stream, "no such kernel"), Error);
  const std::vector<QTensor> other{weight, testing::random_weight(format, 4, 9, 1)};
  EXPECT_THROW(pack_linear_fused(other, {}, {}, stream), Error);
  const auto packed = pack_linear(weight, {}, {}, stream);
  Tensor y(DType::kF32, {2, 4}), narrow(DType::kF32, {2, 3});
  EXPECT_THROW(linear(Tensor(DType::kF32, {2, 7}), *packed, y, stream), Error);
  EXPECT_THROW(linear(Tensor(DType::kF32, {2, 8}), *packed, narrow, stream), Error);
}

TEST(Linear, ReportsWhatIsNative) {
  const LinearFormat format = testing::weight_formats()[3];
  const QTensor weight = testing::random_weight(format, 4, 8, 1);
  const std::string best = list_linear_kernels(format.spec, {InputQuant::Kind::kStaticInt8, 1.0f})[0];
  if (best == "reference") GTEST_SKIP() << "no vector kernels on this machine";
  EXPECT_TRUE(pack_linear(weight, {}, {InputQuant::Kind::kStaticInt8, 1.0f}, default_stream())->native());
  EXPECT_FALSE(pack_linear(weight, {}, {InputQuant::Kind::kStaticE4M3, 1.0f}, default_stream())->native());
}

}  // namespace
}  // namespace halftone
