#pragma once
// The kernel behind prepare_input(), by raw pointers.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

enum class InputCodes : int { kNone, kInt8, kE4M3 };

// The members of PrepareInput; strides in elements. step: of the static kinds, unused where y_scales is given.
struct PrepareInputArguments {
  const std::uint16_t* x;
  std::int64_t x_stride;
  const float* norm;
  float eps, step;
  InputCodes codes;
  void* y;
  std::int64_t y_stride;
  bool y_bytes;  // codes in one byte each
  float* y_scales;
  int rows, cols;
};

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
