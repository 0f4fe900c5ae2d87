#pragma once
// The CPU's loops behind the elementwise ops; each gives an element the same bits at every position.

#include <cstdint>

#include "ops/norm.h"

namespace halftone {

// y[i] = x[i] + y[i]
void add_cpu(const float* x, std::int64_t count, Numerics numerics, float* y);
// y[i] = silu(gate[i]) * up[i]
void silu_mul_cpu(const float* gate, const float* up, std::int64_t count, Numerics numerics, float* y);
// y[i] = x[i] * sigmoid(1.702 x[i])
void quick_gelu_cpu(const float* x, std::int64_t count, Numerics numerics, float* y);
// y[i] = x[i] rounded to bf16
void round_bf16_cpu(const float* x, std::int64_t count, float* y);

}  // namespace halftone
