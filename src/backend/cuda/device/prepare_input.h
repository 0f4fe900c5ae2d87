#pragma once
// The kernel behind prepare_input(), by raw pointers.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

// The last four in blocks.
enum class InputCodes : int { kNone, kInt8, kE4M3, kNvfp4, kE4M3Group, kMxfp8, kMxfp4 };

// What is made of rows: PrepareInput's members; strides in elements. step: of the static kinds. Of blocks: `block` elements
// each, second and inverse as formats/block_scales.h has them; scales of groups go to group_scales, [rows, ceil(cols /
// block)], or, where that is null, into the elements.
struct InputRows {
  const std::uint16_t* x;
  std::int64_t x_stride;
  const float* norm;
  float eps, step;
  InputCodes codes;
  bool by_token, aligned;  // aligned: rows of x, and norm, begin at multiples of 16 bytes
  bool inverse;
  float second;
  int block;
  float* group_scales;
  int rows, cols;
  double inverse_cols;  // 1 / cols: a division takes longer than all else that a norm does
};

struct PrepareInputArguments {
  InputRows in;
  bool gates;  // x: [rows, 2 cols], of which silu_mul() is prepared
  void* y;
  std::int64_t y_stride;
  bool y_bytes;     // codes in one byte each
  float* y_scales;  // where by_token
};

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
