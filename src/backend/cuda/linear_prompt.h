#pragma once
// The row "cublas" of linear_rows(): products of many tokens, by cuBLASLt. Which of its algorithms runs is chosen by the
// weight, the number of tokens and how long each takes, but none that splits K: those have one order of summation for an
// element of y, whatever tiles they take, as CudaLinear.GivesAPromptsTokenTheSameBitsWhateverTheLength
// demands of the device that it runs on.
//   bf16 alone                      multiplied as it is, the bias in the product
//   INT8 with INT8 inputs           exact sums in int32
//   E4M3 with E4M3 inputs           E4M3 products, sums in f32, for K and N that are multiples of 16; where there is neither
//                                   bias nor residual and y is bf16, the library multiplies the sums with the scales, too
//   E4M3 by tiles of 128 x 128, INT4 by symmetric groups of 128, with E4M3 inputs by 128, by token or static
//                                   on Hopper E4M3 products of E4M3's codes or INT4's, which E4M3 holds; the library
//                                   multiplies the sums of 128 inputs with the scales of both; for K and N as above, and parts
//                                   that share no tile
//   NVFP4 with NVFP4 inputs         from compute capability 10.0 on, by blocks of 16, for N a multiple of 16 and K of 64: E2M1
//                                   products of codes and scales, which follow from x exactly
//   MXFP4 with MXFP4 inputs         on 12.0 the same by a kernel of our own, in a program that is built for 120a
//   others                          the weight's codes are written as bf16 into the workspace first, exactly but for F32, F16
//                                   and NF4; where groups have scales (code - zero) * scale + offset: rounded to bf16, 2^-8
//                                   of each weight, but for scales of one byte with codes of 4 bits, which bf16 holds
// E4M3's products, of both kinds: 2^-12 of sum |x' w|, for matrix units drop bits when they add 32 of them (less than 2^-14
// was measured). For others inputs whose groups have scales (groups of 128) are multiplied with them and rounded to bf16
// before: 2^-8 of each. The ways for NVFP4 and MXFP4 have been compiled, but not run: there was no such device.

#include "backend/cuda/linear.h"

namespace halftone::cuda {

// What run_linear_prompt() needs of LinearCall::workspace for up to `rows` tokens; without a residual a product that is y
// itself needs less, with LinearCall::spare_rows some that else would not be.
std::size_t linear_prompt_workspace(const LinearWeight& weight, std::int64_t rows, bool residual = true,
                                    bool spare_rows = false);
// The dtype of the codes of x: I8, F8_E4M3 or BF16.
DType linear_prompt_input(const LinearWeight& weight);

// Rows of x and of y that begin at multiples of 16 bytes, N a multiple of 8 where the product is not y itself, a workspace of
// that size; and a library that is there.
bool linear_prompt_supports(const LinearWeight& weight, const LinearCall& call);
void run_linear_prompt(const LinearWeight& weight, const LinearCall& call, const Launch& launch);

}  // namespace halftone::cuda
