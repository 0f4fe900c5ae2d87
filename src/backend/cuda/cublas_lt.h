#pragma once
// Matrix products by cuBLASLt, which is opened when it is first asked for: a program that never multiplies large matrices
// on a GPU runs where it is not installed.

#include <cstddef>
#include <memory>

#include "backend/cuda/device_matrix.h"
#include "backend/cuda/launch.h"

namespace halftone::cuda {

// y[M, N] = x[M, K] W[N, K]^T (+ bias[N]) by one algorithm, chosen when it is made, for any M. K is not split, so that the
// order of summation does not hang on M.
//   x, W: bf16 or E4M3 -> y: bf16 or f32, sums in f32;  x, W: INT8 -> y: int32
class BlasProduct {
 public:
  // False where there is no cuBLASLt.
  static bool available();
  // Strides are those of the matrices given, whose data may be null here; x.rows is the M that the algorithm is chosen for.
  // workspace_bytes: what run() may use.
  // Throws Error("[cuda product] ...") when there is no cuBLASLt or it has no kernel for the product.
  // biased: with a bias in bf16, where y is.
  BlasProduct(const DeviceMatrix& x, const DeviceMatrix& w, const DeviceMatrix& y, std::size_t workspace_bytes,
              bool biased = false);
  ~BlasProduct();
  BlasProduct(const BlasProduct&) = delete;
  BlasProduct& operator=(const BlasProduct&) = delete;

  struct Operands {
    const void *x, *w;
    void* y;
    void* workspace;
    const void* bias = nullptr;
  };
  // Not from two threads at once.
  void run(std::int64_t rows, const Operands& operands, const Launch& launch) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone::cuda
