#pragma once
// ggml's tensor types: how many weights share a block, and how many bytes it takes. Source: ggml/src/ggml.c
// type_traits, ggml/src/ggml-common.h.

#include <cstdint>
#include <optional>
#include <string_view>

#include "tensor/qtensor.h"

namespace halftone {

// The numbers are those of the files.
enum class GgmlType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,  // 32 weights: F16 scale; 16 bytes of nibbles, weights i and i + 16 in one; W = (nibble - 8) * scale
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,  // 32 weights: F16 scale; 32 signed bytes; W = byte * scale
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,  // 256 weights: F16 d, F16 dmin; 8 6-bit scales and minima; nibbles; W = d * scale * nibble - dmin * min
  kQ5_K = 13,
  kQ6_K =
      14,  // 256 weights: low nibbles, high pairs of bits, 16 signed 8-bit scales, F16 d; W = d * scale * (code - 32)
  kBF16 = 30,
};

struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;  // "Q4_K"
  std::int64_t weights;   // of a block
  std::int64_t bytes;     // of a block
};

// Nothing for a number that is not listed above.
const GgmlTypeInfo* find_ggml_type(std::uint32_t number);
const GgmlTypeInfo& ggml_type_info(GgmlType type);

// The dtype of F32, F16 and BF16.
std::optional<DType> plain_dtype(GgmlType type);
// The type that layout gguf stores a format in: int8 by 32 Q8_0, int4 by 32 Q4_0, with offsets Q4_K.
std::optional<GgmlType> ggml_type_of(const QuantSpec& spec);
// The format that blocks are read into, for Q8_0, Q4_0, Q4_K and Q6_K.
std::optional<QuantSpec> spec_of_ggml(GgmlType type);

// Rows of blocks, U8 [rows, cols / weights * bytes], as codes and scales: exactly what ggml's dequantize_row computes
// from them. Throws Error("[name] ...") for another type, cols that are not whole blocks, another shape, and scales
// that are not finite.
QTensor unpack_ggml(GgmlType type, const Tensor& blocks, std::int64_t cols, std::string_view name);

}  // namespace halftone
