#pragma once
// The row "cublas" of linear_rows(): plain bf16 products of more tokens than "decode" takes, by cuBLASLt.

#include "backend/cuda/linear.h"

namespace halftone::cuda {

// Rows of x and of y that begin at multiples of 16 bytes; y in bf16, or in f32 without a bias. The residual is another matrix
// than y.
bool linear_blas_supports(const LinearWeight& weight, const LinearCall& call);
void run_linear_blas(const LinearWeight& weight, const LinearCall& call, const Launch& launch);

}  // namespace halftone::cuda
