#pragma once
// The formats and shapes that the test and the benchmark of linear() share.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "ops/linear.h"

namespace halftone::testing {

// One format of a weight together with the quantization of its input.
struct LinearFormat {
  std::string name;
  QuantSpec spec;
  DType scales = DType::kF32;
  float global_scale = 1.0f;
  InputQuant input;
};

inline std::vector<LinearFormat> weight_formats() {
  using enum Granularity;
  return {
      {"f32", {Element::kF32, kNone, 0}, DType::kF32, 1.0f, {}},
      {"f16", {Element::kF16, kNone, 0}, DType::kF32, 1.0f, {}},
      {"bf16", {Element::kBF16, kNone, 0}, DType::kF32, 1.0f, {}},
      {"int8", {Element::kInt8, kChannel, 0}, DType::kBF16, 1.0f, {}},
      {"int8_tensor", {Element::kInt8, kTensor, 0}, DType::kF32, 1.0f, {}},
      {"int8_group32", {Element::kInt8, kGroup, 32}, DType::kF16, 1.0f, {}},
      {"int4_group128", {Element::kInt4, kGroup, 128}, DType::kBF16, 1.0f, {}},
      {"int4_group32", {Element::kInt4, kGroup, 32}, DType::kF16, 1.0f, {}},
      {"int4_channel", {Element::kInt4, kChannel, 0}, DType::kF32, 1.0f, {}},
      {"e4m3_tensor", {Element::kE4M3, kTensor, 0}, DType::kF32, 1.0f, {}},
      {"e4m3_channel", {Element::kE4M3, kChannel, 0}, DType::kF32, 1.0f, {}},
      {"e2m1_group16", {Element::kE2M1, kGroup, 16}, DType::kF8E4M3, 0.0123f, {}},
      {"e2m1_group32", {Element::kE2M1, kGroup, 32}, DType::kF8E4M3, 0.0345f, {}},
  };
}

inline std::vector<InputQuant> input_quantizations() {
  using enum InputQuant::Kind;
  return {{kNone, 1.0f}, {kStaticInt8, 0.021f}, {kStaticE4M3, 0.0061f}, {kDynamicNvfp4, 0.0011f}};
}

inline std::string_view input_name(InputQuant::Kind kind) {
  constexpr std::string_view names[] = {"", "_x_int8", "_x_e4m3", "_x_nvfp4"};
  return names[static_cast<std::size_t>(kind)];
}

// Roughly normal: the sum of four uniform numbers, variance 1/3.
inline float random_value(Random& random) {
  double sum = -2;
  for (int i = 0; i < 4; ++i) sum += random.uniform();
  return static_cast<float>(sum);
}

inline Tensor random_input(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Random random(seed);
  Tensor x(DType::kF32, {rows, cols});
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = random_value(random);
  return x;
}

// A positive scale in 2^-7 .. 2^-3 as `dtype` stores it; a tenth of them is zero, as pruned rows have.
inline void set_random_scale(Tensor& scales, std::int64_t i, Random& random) {
  const bool zero = random.below(10) == 0;
  const float value = zero ? 0.0f : static_cast<float>(std::exp2(-7 + 4 * random.uniform()));
  switch (scales.dtype()) {
    case DType::kF32:
      scales.data<float>()[i] = value;
      break;
    case DType::kBF16:
      scales.bits<std::uint16_t>()[i] = bf16::encode(value);
      break;
    case DType::kF16:
      scales.bits<std::uint16_t>()[i] = f16::encode(value);
      break;
    default:
      scales.bits<std::uint8_t>()[i] = e4m3::encode(value);
  }
}

// Random codes: every one of an 8-bit or 4-bit type but NaN; floats of an ordinary size.
inline void set_random_code(Tensor& payload, std::int64_t i, Random& random) {
  switch (payload.dtype()) {
    case DType::kF32:
      payload.data<float>()[i] = random_value(random);
      break;
    case DType::kBF16:
      payload.bits<std::uint16_t>()[i] = bf16::encode(random_value(random));
      break;
    case DType::kF16:
      payload.bits<std::uint16_t>()[i] = f16::encode(random_value(random));
      break;
    default: {
      auto code = static_cast<std::uint8_t>(random.next());
      if (payload.dtype() == DType::kF8E4M3 && (code & 0x7f) == e4m3::kNan) code = 0;
      payload.bits<std::uint8_t>()[i] = code;
    }
  }
}

inline QTensor random_weight(const LinearFormat& format, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  constexpr DType payloads[] = {DType::kF32, DType::kF16,    DType::kBF16, DType::kI8,
                                DType::kU8,  DType::kF8E4M3, DType::kU8};
  Random random(seed);
  QTensor weight;
  weight.spec = format.spec;
  weight.shape = {rows, cols};
  weight.global_scale = format.global_scale;
  const bool nibbles = format.spec.element == Element::kInt4 || format.spec.element == Element::kE2M1;
  weight.payload =
      Tensor(payloads[static_cast<std::size_t>(format.spec.element)], {rows, nibbles ? (cols + 1) / 2 : cols});
  for (std::int64_t i = 0; i < weight.payload.numel(); ++i) set_random_code(weight.payload, i, random);
  switch (format.spec.granularity) {
    case Granularity::kNone:
      return weight;
    case Granularity::kTensor:
      weight.scales = Tensor(format.scales, {1});
      break;
    case Granularity::kChannel:
      weight.scales = Tensor(format.scales, {rows});
      break;
    case Granularity::kGroup:
      weight.scales = Tensor(format.scales, {rows, (cols + format.spec.group - 1) / format.spec.group});
      break;
  }
  for (std::int64_t i = 0; i < weight.scales.numel(); ++i) set_random_scale(weight.scales, i, random);
  return weight;
}

// Odd shapes [M, N, K]: nothing a multiple of anything, single rows, columns and inputs, and more rows than one tile.
struct LinearShape {
  std::int64_t m, n, k;
};
inline std::vector<LinearShape> odd_shapes() {
  return {{1, 1, 1},    {1, 16, 4}, {2, 33, 31},  {3, 17, 130}, {4, 70, 64},  {5, 15, 257},
          {6, 129, 96}, {7, 40, 1}, {8, 49, 515}, {9, 161, 48}, {13, 5, 300}, {23, 35, 1030}};
}

}  // namespace halftone::testing
