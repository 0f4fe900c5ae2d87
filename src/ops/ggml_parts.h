#pragma once
// What the scalar and the vector rounding of Q4_K share: a block of 256 weights is eight parts of 32.

#include <cstdint>

namespace halftone::ggml {

constexpr int kSmall = 32;  // weights of a block of Q8_0 and Q4_0, and of a part of Q4_K
constexpr int kParts = 8, kLarge = kParts * kSmall;
constexpr int kQ8Bytes = 34, kQ4Bytes = 18, kLargeBytes = 144;
constexpr int kMaxCode = 15;
// Steps that the search tries: inverse = (kFirstStep + kStepSize * i + kMaxCode) / (most - minimum), i = 0 .. kSteps
constexpr int kSteps = 20;
constexpr float kFirstStep = -1.0f, kStepSize = 0.1f;
// nearest(x) = bits(x + kMagic) & kFraction - kHalf: to the nearest integer, ties to even, for magnitudes below 2^22;
// larger ones wrap as in ggml.
constexpr float kMagic = 0x1.8p23f;
constexpr std::int32_t kFraction = 0x007fffff, kHalf = 0x00400000;

// Of one part what the search finds: x ~ scale * code + minimum, by code = clamp(nearest(inverse * (x - base)), 0, 15).
struct Part {
  float scale, minimum;
  float inverse, base;
};

// What the stored scales make of a part's codes: clamp(nearest((x + shift) / scale), 0, 15). Scale 0, where none is left:
// those of the search stay.
struct PartRule {
  float shift, scale;
};

// Writes the first 16 bytes of a block: d, dmin and the 6-bit scales and minima of its eight parts.
void store_parts(const Part* parts, std::uint8_t* block, PartRule* rules);

// The F16 code, as ggml stores scales.
void store_f16(float value, std::uint8_t* to);

}  // namespace halftone::ggml
