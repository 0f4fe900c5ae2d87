#pragma once
// One head of one token, turned in place.  cos, sin: [half], x: [2 * half], half = d / 2 of rope.h.

#include "ops/rope.h"

namespace halftone {

// In scalar arithmetic.
void rotate_reference(const float* cos, const float* sin, std::int64_t half, Numerics numerics, float* x);
// The CPU's: the same bits.
void rotate_cpu(const float* cos, const float* sin, std::int64_t half, Numerics numerics, float* x);

}  // namespace halftone
