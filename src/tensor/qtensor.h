#pragma once
// A weight matrix in any format: one value of payload, scales and specification, and one function that decodes it.
//   W[r, c] ~ code(r, c) * scale(r, c) * global_scale
// Readers build it, writers take it apart, ops run on it. Adding a scale must change no signature.

#include <string>

#include "tensor/tensor.h"

namespace halftone {

// The encoding of one code.
enum class Element : std::uint8_t { kF32, kF16, kBF16, kInt8, kInt4, kE4M3, kE2M1 };

// Which weights share one scale.
enum class Granularity : std::uint8_t {
  kNone,     // no scales: an unquantized tensor
  kTensor,   // scales [1]
  kChannel,  // scales [rows]: one for each output
  kGroup,    // scales [rows, ceil(cols / group)]: `group` consecutive inputs of one output
};

struct QuantSpec {
  Element element = Element::kBF16;
  Granularity granularity = Granularity::kNone;
  std::int64_t group = 0;  // kGroup: 16, 32, 64, 128
  bool operator==(const QuantSpec&) const = default;
};

struct QTensor {
  QuantSpec spec;
  Shape shape;  // [rows, cols] = [outputs, inputs]
  // kF32, kF16, kBF16: that dtype, [rows, cols].  kInt8: kI8 [rows, cols].  kE4M3: kF8E4M3 [rows, cols].
  // kInt4 (two's complement) and kE2M1: kU8 [rows, ceil(cols / 2)], the even column in the low nibble.
  Tensor payload;
  // As the file stores them, so kF32, kBF16, kF16 or kF8E4M3; absent for kNone.
  Tensor scales;
  float global_scale = 1.0f;  // NVFP4's second level (weight_scale_2); 1 elsewhere

  std::int64_t rows() const { return shape.at(0); }
  std::int64_t cols() const { return shape.at(1); }
  // Payload and scales.
  std::int64_t nbytes() const { return payload.nbytes() + (scales.defined() ? scales.nbytes() : 0); }
};

// An unquantized matrix. Throws Error unless it is [rows, cols] of kF32, kF16 or kBF16.
QTensor wrap_unquantized(const Tensor& weight);

// How the input of a product is quantized before it.
struct InputQuant {
  enum class Kind : std::uint8_t {
    kNone,
    kStaticInt8,    // q = clamp(rint(x / scale), -128, 127)
    kStaticE4M3,    // q = e4m3(clamp(x / scale, -448, 448))
    kDynamicNvfp4,  // E2M1 in blocks of 16: block scale e4m3(amax / 6 / scale), value code * block scale * scale
  };
  Kind kind = Kind::kNone;
  float scale = 1.0f;  // per tensor, known before the product
  bool operator==(const InputQuant&) const = default;
};

// Throws Error("[name] ...") when payload, scales and spec do not fit together.
void check_qtensor(const QTensor& q, std::string_view name);

// The decoded value of one code, before scales, at (row, col): the one table of element decoders.
float decode_code(const QTensor& q, std::int64_t row, std::int64_t col);
// The scale at (row, col), without the global one.
float scale_at(const QTensor& q, std::int64_t row, std::int64_t col);
// [rows, cols] f32: code * (scale * global_scale), the scales multiplied first, each product rounded to f32.
Tensor dequantize(const QTensor& q);
// Rows [begin, end) of the same into out, [end - begin, cols] f32; q must have passed check_qtensor.
void dequantize_rows(const QTensor& q, std::int64_t begin, std::int64_t end, float* out);

// "int4 group 128", "e4m3 per tensor", "bf16", ...
std::string to_string(const QuantSpec& spec);

}  // namespace halftone
