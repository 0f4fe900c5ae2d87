#pragma once
// Rounds weights to the blocks of GGUF files, bit for bit as ggml's reference quantizers do (quantize_row_q8_0_ref,
// quantize_row_q4_0_ref, quantize_row_q4_K_ref of ggml/src/ggml-quants.c), in f32 without contraction:
//
//   Q8_0  d = amax / 127                     code = round(x * (1 / d)), halves away from zero; d is stored as F16
//   Q4_0  d = (value of largest magnitude) / -8     code = min(15, trunc(x * (1 / d) + 8.5))
//   Q4_K  each 32 weights get a scale and a minimum of 0 or less by a weighted least-squares search over 21 step sizes
//         (weight of x: root mean square of the 32 + |x|); the 8 scales and minima of 256 weights are rounded to 6 bits
//         of the largest, and the codes once more with what is stored
//
// Q8_0 and Q4_0 divide by the scale before it is rounded to F16. Every sum of Q4_K has one order, that of the weights:
// vectors hold one weight of several parts, so that every instruction set gives the same bits.

#include <cstdint>

namespace halftone {

// x: finite f32, [count * 32], Q4_K [count * 256]. blocks: [count * 34], [count * 18] and [count * 144] bytes.
void round_q8_0(const float* x, std::int64_t count, std::uint8_t* blocks);
void round_q4_0(const float* x, std::int64_t count, std::uint8_t* blocks);
void round_q4_k(const float* x, std::int64_t count, std::uint8_t* blocks);

// The same for machines without vectors, and for tests.
namespace scalar {
void round_q8_0(const float* x, std::int64_t count, std::uint8_t* blocks);
void round_q4_0(const float* x, std::int64_t count, std::uint8_t* blocks);
void round_q4_k(const float* x, std::int64_t count, std::uint8_t* blocks);
}  // namespace scalar

}  // namespace halftone
