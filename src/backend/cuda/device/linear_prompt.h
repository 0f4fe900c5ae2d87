#pragma once
// The kernels around the library's products of many tokens, by raw pointers.

#include "backend/cuda/device/linear.h"

namespace halftone::cuda {

// target[n, k] = (code - zero) * scale + offset, as far as groups have them, rounded to bf16; zeros from k = K on.
//   target: [N, stride] bf16, stride a multiple of 8.
void start_expand_weight(const LinearArguments& arguments, std::uint16_t* target, std::int64_t stride,
                         const Launch& launch);

// y = the last step of ops/linear.h on sums, and the residual.  sums: [M, N] f32, or int32 with arguments.integers.
void start_finish_sums(const LinearArguments& arguments, const void* sums, const Launch& launch);

}  // namespace halftone::cuda
