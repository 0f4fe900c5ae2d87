#pragma once
// A weight matrix in any format: one value of payload, scales and specification, and one function that decodes it.
//   W[r, c] = (code(r, c) - zero(r, c)) * (scale(r, c) * global_scale) + offset(r, c)
// Readers build it, writers take it apart, ops run on it. Adding a scale must change no signature.

#include <string>

#include "tensor/tensor.h"

namespace halftone {

// The encoding of one code.
enum class Element : std::uint8_t { kF32, kF16, kBF16, kInt8, kInt4, kE4M3, kE2M1, kE5M2, kE3M2, kE2M3, kNF4 };

// Which weights share one scale.
enum class Granularity : std::uint8_t {
  kNone,     // no scales: an unquantized tensor
  kTensor,   // scales [1]
  kChannel,  // scales [rows]: one for each output
  kGroup,    // scales [rows, ceil(cols / group)]: `group` consecutive inputs of one output
  kTile,     // scales [ceil(rows / 128), ceil(cols / 128)]: squares of 128 x 128
};

constexpr std::int64_t kTileSize = 128;

struct QuantSpec {
  Element element = Element::kBF16;
  Granularity granularity = Granularity::kNone;
  std::int64_t group = 0;   // kGroup: a multiple of 16 as a rule; kTile: kTileSize
  bool mx = false;          // the scales are powers of two, kF8E8M0
  bool asymmetric = false;  // there are zeros, or offsets, or both
  bool operator==(const QuantSpec&) const = default;
};

struct QTensor {
  QuantSpec spec;
  Shape shape;  // [rows, cols] = [outputs, inputs]
  // kF32, kF16, kBF16: that dtype, [rows, cols].  kInt8: kI8 [rows, cols].  kE4M3: kF8E4M3, kE5M2: kF8E5M2, kE3M2 and
  // kE2M3: kU8, one code a byte, [rows, cols].
  // kInt4 (two's complement), kE2M1, kNF4: kU8 [rows, ceil(cols / 2)], the even column in the low nibble.
  Tensor payload;
  // As the file stores them: kF32, kBF16, kF16, kF8E4M3 or (spec.mx) kF8E8M0; absent for kNone.
  Tensor scales;
  // NVFP4's second level as the file stores it: ModelOpt's weight_scale_2; with inverse_global compressed-tensors'
  // weight_global_scale, by which scales are divided. 1 elsewhere.
  float global_scale = 1.0f;
  bool inverse_global = false;
  // kI8 in the scales' shape, or undefined. Codes without a sign are stored minus half their range, and so are their
  // zeros (formats/integer.h).
  Tensor zeros;
  // kF32 in the scales' shape, or undefined: GGUF Q4_K's -dmin * m.
  Tensor offsets;

  std::int64_t rows() const { return shape.at(0); }
  std::int64_t cols() const { return shape.at(1); }
  // What multiplies every scale.
  float global_factor() const { return inverse_global ? 1.0f / global_scale : global_scale; }
  // Payload, scales, zeros and offsets.
  std::int64_t nbytes() const;
};

// The shape of the scales (zeros, offsets) of a [rows, cols] matrix; {} for kNone.
Shape scales_shape(const QuantSpec& spec, const Shape& shape);
// The dtype and the shape of the payload.
DType payload_dtype(Element element);
Shape payload_shape(Element element, const Shape& shape);
// Bits of one code: 32, 16, 8, 6 or 4. (6-bit codes lie one a byte in memory.)
int bits_of(Element element);

// An unquantized matrix. Throws Error unless it is [rows, cols] of kF32, kF16 or kBF16.
QTensor wrap_unquantized(const Tensor& weight);

// How the input of a product is quantized before it.
struct InputQuant {
  enum class Kind : std::uint8_t {
    kNone,
    kStaticInt8,        // q = clamp(rint(x / scale), -128, 127)
    kStaticE4M3,        // q = e4m3(clamp(x / scale, -448, 448))
    kDynamicNvfp4,      // E2M1 in blocks of 16: block scale e4m3(amax / (6 * scale)), value code * block scale * scale
    kDynamicInt8,       // as kStaticInt8, by token: scale = amax / 127.5, as compressed-tensors (vLLM: amax / 127)
    kDynamicE4M3,       // as kStaticE4M3, by token: scale = amax / 448
    kDynamicE4M3Group,  // as kDynamicE4M3, by 128 consecutive inputs of a token
    kDynamicMxfp8,      // E4M3 in blocks of 32 with an E8M0 scale
    kDynamicMxfp4,      // E2M1 in blocks of 32 with an E8M0 scale
  };
  Kind kind = Kind::kNone;
  // As the file stores it, per tensor, known before the product: the static kinds and kDynamicNvfp4; 1 elsewhere. With
  // `inverse` (tensor/input_scales.h) blocks have compressed-tensors' rules, whose file stores the reciprocal.
  float scale = 1.0f;
  bool inverse = false;
  // What multiplies a code.
  float step() const { return inverse ? 1.0f / scale : scale; }
  bool operator==(const InputQuant&) const = default;
};

// True for the kinds whose `scale` comes from calibration.
constexpr bool has_static_scale(InputQuant::Kind kind) {
  return kind == InputQuant::Kind::kStaticInt8 || kind == InputQuant::Kind::kStaticE4M3 ||
         kind == InputQuant::Kind::kDynamicNvfp4;
}

// Throws Error("[name] ...") when payload, scales and spec do not fit together.
void check_qtensor(const QTensor& q, std::string_view name);

// The decoded value of one code, before zeros and scales, at (row, col): the one table of element decoders.
float decode_code(const QTensor& q, std::int64_t row, std::int64_t col);
// The scale at (row, col), without the global one; the zero and the offset, 0 where there is none.
float scale_at(const QTensor& q, std::int64_t row, std::int64_t col);
float zero_at(const QTensor& q, std::int64_t row, std::int64_t col);
float offset_at(const QTensor& q, std::int64_t row, std::int64_t col);
// Where the scale of (row, col) lies in the tensor of scales.
std::int64_t scale_index(const QTensor& q, std::int64_t row, std::int64_t col);
// [rows, cols] f32: (code - zero) * (scale * global_scale), or scale / global_scale where it is inverse, the scales
// first, each result rounded to f32; with offsets fma(code - zero, scale, offset).
Tensor dequantize(const QTensor& q);
// Rows [begin, end) of the same into out, [end - begin, cols] f32; q must have passed check_qtensor.
void dequantize_rows(const QTensor& q, std::int64_t begin, std::int64_t end, float* out);

// "int4 group 128", "e4m3 per tensor", "bf16", ...
std::string to_string(const QuantSpec& spec);

}  // namespace halftone
