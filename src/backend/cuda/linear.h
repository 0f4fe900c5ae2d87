#pragma once
// ops/linear.h's product on the device: y[m, n] = s_in[m] * sum_k x'[m, k] * W[n, k] + bias[n].
//
// Every kernel has an order of summation that follows from the weight's shape and format alone: an element of y depends on
// its row of x and its row of W, not on M, nor on what else runs. The kernels differ from each other and from the CPU in
// that order, so a caller that wants one result whatever M names its kernel. Error of each against exact arithmetic, before
// y is rounded to its dtype: (K + 16) 2^-22 sum |x' w|, and what linear_prompt.h says; INT8 inputs with INT8 weights: the
// exact sum, then the CPU's two roundings, so the CPU's bits.

#include <span>

#include "backend/cuda/linear_weight.h"

namespace halftone::cuda {

struct LinearCall {
  // [M, K], rows * stride elements long: bf16, or one byte where the weight and its input are both INT8 or both E4M3.
  // Quantized inputs are codes (prepare_input.h). The row "cublas" wants them as linear_prompt_input() says, "decode" as
  // linear_decode_input().
  DeviceMatrix x;
  // Then x is bf16 as it was before all this, and the row "decode" makes h and its codes of it on the way, with the bits of
  // prepare_input(); linear_prepares() says whether it does. norm: [K] or null.
  bool prepares = false;
  const float* norm = nullptr;
  float eps = 0.0f;
  // [M], s_in of each token, where the input's scales are the tokens'. [M, ceil(K / 128)] or null where they are those of
  // groups: null where x has been multiplied with them, as the row "cublas" wants it but for E4M3. Else null.
  const float* x_scales = nullptr;
  // [M, N] bf16 or f32.
  DeviceMatrix y;
  // [M, N] bf16 or without data: then y = bf16(residual + bf16(product)). It may be y itself.
  DeviceMatrix residual;
  // The upper half of W's rows are gates, the lower half values: y is [M, N / 2], what silu_mul() makes of the product. The
  // row "decode" alone does it, for N a multiple of 16.
  bool silu_mul = false;
  // Of a prompt, as the row "cublas" wants it, and linear_prompt_workspace() bytes for that one, 256-byte aligned.
  bool prompt = false;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  // y has memory for a multiple of four rows, and what is in those behind its own does not matter. (x in E4M3 has it always.)
  bool spare_rows = false;
};

// The dtype of x for the row "decode": I8 and F8E4M3 where codes of the weight and of x are both, else BF16.
DType linear_decode_input(const LinearWeight& weight);
// Whether "decode" takes x, and what it prepares, for rows of x at multiples of 16 bytes and up to kDecodeTokens of them.
bool linear_decodes(const LinearWeight& weight);
// Whether "decode" prepares x itself: one or two tokens that fit into shared memory, for every block does it again.
bool linear_prepares(const LinearWeight& weight, const DeviceMatrix& x);

struct LinearRow {
  std::string_view name;
  bool (*supports)(const LinearWeight& weight, const LinearCall& call);
  void (*run)(const LinearWeight& weight, const LinearCall& call, const Launch& launch);
};

// Best first; the last one takes every weight that upload_linear() makes and any M.
std::span<const LinearRow> linear_rows();

// Runs the first row that supports the call, or the one named `kernel`. Throws Error("[cuda linear] ...") when shapes or
// dtypes do not fit, or the named row does not support them.
void linear(const LinearWeight& weight, const LinearCall& call, const Launch& launch, std::string_view kernel = "");

}  // namespace halftone::cuda
