#pragma once
// SVDQuant (Li et al. 2024): the largest singular directions of a weight stay unquantized as two thin matrices, and only
// what is left is rounded:   W = B A + rest,   y = Q(rest) x + B (A x).   Source: modelopt 0.47 svdquant.

#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace halftone {

struct LowRank {
  Tensor a;  // [rank, inputs] f32: right singular vectors
  Tensor b;  // [outputs, rank] f32: left singular vectors times singular values
};

// The best approximation of weight [outputs, inputs] f32 by a product of this rank, computed in f64 and rounded once.
// Directions whose singular value is 0, or that the shape does not have, are zero. The signs of a pair of vectors are
// arbitrary. Throws Error unless rank is 1 or more and the weight is a matrix of finite numbers.
LowRank find_low_rank(const Tensor& weight, std::int64_t rank);

// B A, summed in f32 in order of the rank: [outputs, inputs].
Tensor multiply(const LowRank& low_rank);

}  // namespace halftone
