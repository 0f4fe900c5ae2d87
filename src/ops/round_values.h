#pragma once
// Rounding runs of numbers to codes, many at once: the inner loops of quantizing a weight. All numbers are finite.
//   quotient = r(x / scale), divided in f32 and rounded to `quotients` (kF32: not at all; kBF16, kF16: as a tool that
//   computes in the weight's type does).  Codes are the nearest, ties to even, magnitudes beyond the largest become it.
// Every instruction set gives the same bits: those of the scalar codecs in formats/.

#include <cstdint>

#include "tensor/tensor.h"

namespace halftone {

// A row of f32, bf16 or f16 as f32. values: [n].
void widen(const Tensor& tensor, std::int64_t begin, std::int64_t n, float* values);

// The largest magnitude as bits of f32: they order as the numbers do, infinity and NaN come last.
std::uint32_t magnitude_bits(const float* x, std::int64_t n);
// The least and the greatest of n values.
void find_range(const float* x, std::int64_t n, float& low, float& high);

// clamp(rint(r(r(x / scale) + zero)), low, high)
void round_integers(const float* x, std::int64_t n, float scale, float zero, int low, int high, DType quotients,
                    std::int8_t* codes);
// E4M3 codes, saturated.
void round_e4m3(const float* x, std::int64_t n, float scale, DType quotients, std::uint8_t* codes);
// E2M1 codes 0 .. 15 one a byte. ties_down: ties go to the smaller magnitude and zeros are written as 0x8, as ModelOpt's
// MXFP4 export does.
void round_e2m1(const float* x, std::int64_t n, float scale, bool ties_down, std::uint8_t* codes);

// Codes one a byte, of which the four low bits count, two a byte: the even one low. bytes: [ceil(n / 2)].
void pack_nibbles(const std::uint8_t* codes, std::int64_t n, std::uint8_t* bytes);

// Adds the sum of reference^2 to signal and of (value - reference)^2 to noise, each in double, in an order of its own.
void add_energies(const float* reference, const float* value, std::int64_t n, double& signal, double& noise);

// The same for machines without vectors, and for tests.
namespace scalar {
void round_integers(const float* x, std::int64_t n, float scale, float zero, int low, int high, DType quotients,
                    std::int8_t* codes);
void round_e4m3(const float* x, std::int64_t n, float scale, DType quotients, std::uint8_t* codes);
void round_e2m1(const float* x, std::int64_t n, float scale, bool ties_down, std::uint8_t* codes);
}  // namespace scalar

}  // namespace halftone
