#pragma once
// The formats and shapes that the test and the benchmark of linear() share.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/e5m2.h"
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
  bool zeros = false, offsets = false;  // of an asymmetric spec
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
      {"int4_group64_zeros", {Element::kInt4, kGroup, 64, false, true}, DType::kF16, 1.0f, {}, true, false},
      {"int4_channel_zeros", {Element::kInt4, kChannel, 0, false, true}, DType::kF32, 1.0f, {}, true, false},
      {"int8_channel_zeros", {Element::kInt8, kChannel, 0, false, true}, DType::kBF16, 1.0f, {}, true, false},
      {"int4_group32_offsets", {Element::kInt4, kGroup, 32, false, true}, DType::kF32, 1.0f, {}, true, true},
      {"int8_group32_offsets", {Element::kInt8, kGroup, 32, false, true}, DType::kF32, 1.0f, {}, false, true},
      {"int4_group512", {Element::kInt4, kGroup, 512}, DType::kBF16, 1.0f, {}},
      {"e4m3_tiles", {Element::kE4M3, kTile, 128}, DType::kF32, 1.0f, {}},
      {"int8_tiles", {Element::kInt8, kTile, 128}, DType::kF32, 1.0f, {}},
      {"e5m2_channel", {Element::kE5M2, kChannel, 0}, DType::kF32, 1.0f, {}},
      {"mxfp4", {Element::kE2M1, kGroup, 32, true}, DType::kF8E8M0, 1.0f, {}},
      {"mxfp6_e3m2", {Element::kE3M2, kGroup, 32, true}, DType::kF8E8M0, 1.0f, {}},
      {"mxfp6_e2m3", {Element::kE2M3, kGroup, 32, true}, DType::kF8E8M0, 1.0f, {}},
      {"mxfp8", {Element::kE4M3, kGroup, 32, true}, DType::kF8E8M0, 1.0f, {}},
      {"nf4_group64", {Element::kNF4, kGroup, 64}, DType::kF32, 1.0f, {}},
  };
}

inline std::vector<InputQuant> input_quantizations() {
  using enum InputQuant::Kind;
  return {
      {kNone, 1.0f},         {kStaticInt8, 0.021f},         {kStaticE4M3, 0.0061f},      {kDynamicNvfp4, 0.0011f},
      {kDynamicInt8, 1.0f},  {kDynamicE4M3, 1.0f},          {kDynamicE4M3Group, 1.0f},   {kDynamicMxfp8, 1.0f},
      {kDynamicMxfp4, 1.0f}, {kDynamicNvfp4, 900.0f, true}, {kDynamicMxfp8, 1.0f, true}, {kDynamicMxfp4, 1.0f, true}};
}

inline std::string_view input_name(InputQuant::Kind kind) {
  constexpr std::string_view names[] = {
      "",         "_x_int8", "_x_e4m3", "_x_nvfp4", "_x_int8_token", "_x_e4m3_token", "_x_e4m3_group128",
      "_x_mxfp8", "_x_mxfp4"};
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
    case DType::kF8E8M0:
      scales.bits<std::uint8_t>()[i] = zero ? 0 : static_cast<std::uint8_t>(120 + random.below(6));
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
      if (payload.dtype() == DType::kF8E5M2 && (code & 0x7f) >= e5m2::kInfinity) code = 0x7b;
      payload.bits<std::uint8_t>()[i] = code;
    }
  }
}

inline QTensor random_weight(const LinearFormat& format, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Random random(seed);
  QTensor weight;
  weight.spec = format.spec;
  weight.shape = {rows, cols};
  weight.global_scale = format.global_scale;
  weight.payload = Tensor(payload_dtype(format.spec.element), payload_shape(format.spec.element, weight.shape));
  for (std::int64_t i = 0; i < weight.payload.numel(); ++i) set_random_code(weight.payload, i, random);
  if (format.spec.granularity == Granularity::kNone) return weight;
  const Shape shape = scales_shape(format.spec, weight.shape);
  weight.scales = Tensor(format.scales, shape);
  if (format.zeros) weight.zeros = Tensor(DType::kI8, shape);
  if (format.offsets) weight.offsets = Tensor(DType::kF32, shape);
  for (std::int64_t i = 0; i < weight.scales.numel(); ++i) {
    set_random_scale(weight.scales, i, random);
    const bool nibbles = format.spec.element == Element::kInt4;
    const auto zero = static_cast<std::int64_t>(random.below(nibbles ? 16 : 256)) - (nibbles ? 8 : 128);
    if (format.zeros) weight.zeros.data<std::int8_t>()[i] = static_cast<std::int8_t>(zero);
    if (format.offsets) weight.offsets.data<float>()[i] = random_value(random);
  }
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
