#pragma once
// How 16 bytes of a weight's codes become operands of the matrix units: one struct a format. Lane 4 r + t of a warp loads
// 16 bytes of row r; together the four lanes of a row hold kChunk consecutive inputs. Which of them are lane t's is free, as
// long as the input's words are chosen alike: the sum over a chunk has one order all the same.

#include "backend/cuda/device/instructions.cuh"

namespace halftone::cuda {

// kChunk: inputs of a row that a warp takes at once.  kPieces: 16-byte pieces of the input that go with one load of codes.
// kStep: bytes from chunk to chunk.  offset(t, p): where piece p of lane t begins in the chunk.  operands(): what product j
// takes of the codes of its piece; there are two products a piece. `term` is minus the codes' zero, or their scale.
struct Bf16Words {
  static constexpr int kChunk = 32, kPieces = 1, kStep = 64;
  static __device__ int offset(int t, int) { return t * 8; }
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t) {
    return make_uint2(word_of(v, 2 * j), word_of(v, 2 * j + 1));
  }
};

// A signed byte is exact in bf16: its last seven bits are those of a bf16 in [128, 256), from which 128 is subtracted, or
// 256 where the byte is negative.
struct Int8Words {
  static constexpr int kChunk = 64, kPieces = 2, kStep = 64;
  static __device__ int offset(int t, int p) { return t * 16 + p * 8; }
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t) {
    const std::uint32_t word = word_of(v, j);
    return make_uint2(pair(__byte_perm(word, 0, 0x4140)), pair(__byte_perm(word, 0, 0x4342)));
  }
  // One code in the lower byte of each half.
  static __device__ std::uint32_t pair(std::uint32_t codes) {
    constexpr std::uint32_t kOne = 0x3f803f80u;
    return multiply_add_bf16x2(mask_or<0x007f007fu>(codes, 0x43004300u), kOne,
                               mask_or<0x00800080u>(codes, 0xc300c300u));
  }
};

// E4M3's exponent and mantissa lie in bf16's as they are, 120 powers of two too low; NaN codes are not expected.
struct E4m3Words {
  static constexpr int kChunk = 64, kPieces = 2, kStep = 64;
  static __device__ int offset(int t, int p) { return t * 16 + p * 8; }
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t) {
    const std::uint32_t word = word_of(v, j);
    return make_uint2(pair(__byte_perm(word, 0, 0x1404)), pair(__byte_perm(word, 0, 0x3424)));
  }
  // One code in the upper byte of each half.
  static __device__ std::uint32_t pair(std::uint32_t codes) {
    constexpr std::uint32_t k2To120 = 0x7b807b80u, kMinusZero = 0x80008000u;
    return multiply_add_bf16x2(mask_or<0x80008000u>(codes, (codes >> 4) & 0x07f007f0u), k2To120, kMinusZero);
  }
};

// E4M3 codes and inputs that are E4M3 codes, too: one instruction converts two of them to f16, which holds them. A
// piece has four products.
struct E4m3Halves {
  static constexpr int kChunk = 64, kPieces = 1, kStep = 64;
  static __device__ int offset(int t, int) { return t * 16; }
  // Of a weight or of x.
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t) {
    const std::uint32_t word = word_of(v, j);
    return make_uint2(f16_of_e4m3(static_cast<std::uint16_t>(word)),
                      f16_of_e4m3(static_cast<std::uint16_t>(word >> 16)));
  }
};

// Codes in 0 .. 15, eight a word: the low half of a word holds the even inputs, the high half the odd ones. As the last four
// bits of a bf16 a code is that multiple of 2^-133, as the four before them of 2^-129: one instruction multiplies either and
// subtracts the zero, both in units of kUnit, which is as far as bf16's factors reach. Operands are (code - 8 - zero) kUnit,
// exactly; sums of their products are kUnit times as large as those of the codes, and rounded alike from 2^-120 on.
struct Int4Words {
  static constexpr int kChunk = 128, kPieces = 4, kStep = 512;
  static constexpr float kUnit = 0x1p-6f;
  static __device__ int offset(int t, int p) { return p * 32 + t * 8; }
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t minus_zero) {
    constexpr std::uint32_t k2To127 = 0x7f007f00u, k2To123 = 0x7d007d00u;
    const std::uint32_t word = word_of(v, j / 2) >> (j % 2 * 8);
    return make_uint2(multiply_add_bf16x2(word & 0x000f000fu, k2To127, minus_zero),
                      multiply_add_bf16x2(word & 0x00f000f0u, k2To123, minus_zero));
  }
  // Twice -(8 + zero) kUnit: from bf16(136 + zero), twice, with kTwo, or kNoZero alone.
  static constexpr std::uint32_t kTwo = 0x40004000u, kNoZero = 0xbe00be00u;
  static __device__ std::uint32_t minus_zero(std::uint32_t zero, std::uint32_t shift) {
    constexpr std::uint32_t kMinusUnit = 0xbc80bc80u;
    return multiply_add_bf16x2(zero, kMinusUnit, shift);
  }
};

// E2M1's three bits are the last two of bf16's exponent and the first of its mantissa, 126 powers of two too low. Their scale
// has four bits at most, a code two: bf16 holds the product.
struct E2m1Words {
  static constexpr int kChunk = 128, kPieces = 4, kStep = 512;
  static __device__ int offset(int t, int p) { return p * 32 + t * 8; }
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t scale) {
    const std::uint32_t word = word_of(v, j / 2);
    return j % 2 == 0 ? make_uint2(pair(word << 12, word << 6, scale), pair(word << 8, word << 2, scale))
                      : make_uint2(pair(word << 4, word >> 2, scale), pair(word, word >> 6, scale));
  }
  // Their signs and their other bits, where bf16 has them.
  static __device__ std::uint32_t pair(std::uint32_t signs, std::uint32_t bits, std::uint32_t scale) {
    constexpr std::uint32_t k2To126 = 0x7e807e80u, kMinusZero = 0x80008000u;
    const std::uint32_t low = mask_or<0x80008000u>(signs, bits & 0x01c001c0u);
    return multiply_add_bf16x2(multiply_add_bf16x2(low, k2To126, kMinusZero), scale, kMinusZero);
  }
};

// NF4's levels as sums of two bf16, less than 2^-17.4 of a level away from it. The lanes hold them: the first bf16 in the low
// half, the second in the high half of a word, which is `term`.
struct Nf4Words {
  static constexpr int kChunk = 128, kPieces = 4, kStep = 512, kLevels = 16;
  static __device__ int offset(int t, int p) { return p * 32 + t * 8; }
  // .x and .y: two words of the first bf16; .z and .w: those of the second.
  static __device__ uint4 operands(const uint4& v, int j, std::uint32_t level) {
    const std::uint32_t word = word_of(v, j / 2) >> (j % 2 * 8);
    const uint2 a = pair(word, level), b = pair(word >> 4, level);
    return make_uint4(a.x, b.x, a.y, b.y);
  }
  static __device__ uint2 pair(std::uint32_t word, std::uint32_t level) {
    const std::uint32_t even = level_of(word, level), odd = level_of(word >> 16, level);
    return make_uint2(__byte_perm(even, odd, 0x5410), __byte_perm(even, odd, 0x7632));
  }
  // The word of the lane that the last four bits name.
  static __device__ std::uint32_t level_of(std::uint32_t code, std::uint32_t level) {
    return __shfl_sync(0xffffffffu, level, static_cast<int>(code), kLevels);
  }
};

// Codes of one byte in the order of ByteRowArguments::halves: piece p of all lanes is the chunk's inputs 32 p .. 32 p + 31.
template <typename Words>
struct InHalves : Words {
  static __device__ int offset(int t, int p) { return p * 32 + t * 8; }
};

// INT8 codes and INT8 inputs, multiplied as they are.
struct Int8Integers {
  static constexpr int kChunk = 64, kPieces = 1, kStep = 64;
  static __device__ int offset(int t, int) { return t * 16; }
  static __device__ uint2 operands(const uint4& v, int j, std::uint32_t) {
    return make_uint2(word_of(v, 2 * j), word_of(v, 2 * j + 1));
  }
};

}  // namespace halftone::cuda
