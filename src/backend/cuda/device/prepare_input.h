#pragma once
// The kernel behind prepare_input(), by raw pointers.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

enum class InputCodes : int { kNone, kInt8, kE4M3 };

// What is made of rows: PrepareInput's members; strides in elements. step: of the static kinds.
struct InputRows {
  const std::uint16_t* x;
  std::int64_t x_stride;
  const float* norm;
  float eps, step;
  InputCodes codes;
  bool by_token, aligned;  // aligned: rows of x begin at multiples of 16 bytes
  int rows, cols;
};

struct PrepareInputArguments {
  InputRows in;
  void* y;
  std::int64_t y_stride;
  bool y_bytes;     // codes in one byte each
  float* y_scales;  // where by_token
};

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
