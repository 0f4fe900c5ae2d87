#pragma once
// Matrix products by cuBLASLt, which is opened when it is first asked for: a program that never multiplies large matrices
// on a GPU runs where it is not installed.

#include <cstddef>
#include <memory>

#include "backend/cuda/device_matrix.h"
#include "backend/cuda/launch.h"

namespace halftone::cuda {

// y[M, N] = scale x[M, K] W[N, K]^T (+ bias[N]) by one algorithm for any M. K is not split, so that the order of summation
// does not hang on M. Of the algorithms that the library offers the first run() times each and keeps the quickest.
//   x, W: bf16 or E4M3 -> y: bf16 or f32, sums in f32;  x, W: INT8 -> y: int32
//   x, W: E2M1 -> y: bf16 or f32, by Form::kFp4; a dtype of U8, two codes a byte, and cols and strides that count codes
// E4M3 sums are carried in registers of f32 (no "fast accumulation", whose 13 or so bits change every fifth to second bf16).
class BlasProduct {
 public:
  // False where there is no cuBLASLt.
  static bool available();
  // Of E4M3 and E2M1 alone: what x_scales and w_scales are, f32 but for kFp4.
  enum class Form {
    kPlain,   // there are none
    kScaled,  // of rows: [M] and [N]
    // Of 128 inputs of a row, whose sums they multiply, for M and N that are multiples of 4, on Hopper:
    kGroups,  // [ceil(K / 128), M] and [ceil(K / 128), N]
    kTiles,   // [ceil(K / 128), M] and, of 128 rows of W, [ceil(N / 128), ceil(K / 512) 4]
    // E4M3, of 16 inputs of a row, as device/fp4_blocks.h says, from Blackwell on; run nowhere yet.
    kFp4,
  };
  // Strides are those of the matrices given, whose data may be null here; x.rows is the M that algorithms are asked for, and
  // kManyRows where there is none for it. workspace_bytes: what run() may use. biased: with a bias in bf16, where y is.
  // Throws Error("[cuda product] ...") when there is no cuBLASLt or it has no kernel for the product.
  BlasProduct(const DeviceMatrix& x, const DeviceMatrix& w, const DeviceMatrix& y, std::size_t workspace_bytes,
              Form form = Form::kPlain, bool biased = false);
  ~BlasProduct();
  BlasProduct(const BlasProduct&) = delete;
  BlasProduct& operator=(const BlasProduct&) = delete;

  struct Operands {
    const void *x, *w;
    void* y;
    void* workspace;
    const void* bias = nullptr;
    float scale = 1.0f;  // but of INT8
    const void *x_scales = nullptr, *w_scales = nullptr;
  };
  // Of a form with scales x_scales and w_scales are needed. Not from two threads at once.
  void run(std::int64_t rows, const Operands& operands, const Launch& launch) const;

 private:
  static constexpr std::int64_t kManyRows = 1024;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone::cuda
