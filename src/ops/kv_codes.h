#pragma once
// From the codes of a KV cache to f32.

#include <cstdint>

namespace halftone {

// y[i] = e4m3(codes[i]) * scale, rounded to f32; NaN stays NaN.
void decode_e4m3(const std::uint8_t* codes, std::int64_t count, float scale, float* y);
// The same in scalar arithmetic.
void decode_e4m3_reference(const std::uint8_t* codes, std::int64_t count, float scale, float* y);

// y[i] = codes[i] * scale, rounded to f32; -128 is NaN (formats/kv_int8.h).
void decode_int8(const std::int8_t* codes, std::int64_t count, float scale, float* y);
// The same in scalar arithmetic.
void decode_int8_reference(const std::int8_t* codes, std::int64_t count, float scale, float* y);

// y[i] = bf16(codes[i]), exact.
void decode_bf16(const std::uint16_t* codes, std::int64_t count, float* y);

}  // namespace halftone
