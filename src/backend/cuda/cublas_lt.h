#pragma once
// Matrix products by cuBLASLt, which is opened when it is first asked for: a program that never multiplies large matrices
// on a GPU runs where it is not installed.

#include <cstddef>
#include <memory>

#include "backend/cuda/device_matrix.h"
#include "backend/cuda/launch.h"

namespace halftone::cuda {

// y[M, N] = x[M, K] W[N, K]^T for one shape and one algorithm, chosen when it is made.
//   x, W: bf16 -> y: bf16 or f32, x, W: E4M3 -> y: bf16, sums in f32;  x, W: INT8 -> y: int32
class BlasProduct {
 public:
  // Strides are those of the matrices given, whose data may be null here.  workspace_bytes: what run() may use.
  // Throws Error("[cuda product] ...") when there is no cuBLASLt or it has no kernel for the product.
  BlasProduct(const DeviceMatrix& x, const DeviceMatrix& w, const DeviceMatrix& y, std::size_t workspace_bytes);
  ~BlasProduct();
  BlasProduct(const BlasProduct&) = delete;
  BlasProduct& operator=(const BlasProduct&) = delete;

  void run(const void* x, const void* w, void* y, void* workspace, const Launch& launch) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone::cuda
