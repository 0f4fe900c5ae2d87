#pragma once
// Pictures into what a vision tower reads, by raw pointers. Patches follow each other by blocks of merge x merge, row by row
// in the picture and in a block.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

struct PatchGrid {
  int height, width;  // in patches, multiples of merge
  int merge;
};

// y[p, ((c T + t) S + row) S + col] = bf16(values[c][pixel]), of patch p and its pixel (row, col).
struct CutPatchesArguments {
  const std::uint8_t* rgb;  // [grid.height S, grid.width S, 3]
  const float* values;      // [3, 256]
  PatchGrid grid;
  int patch_size, frames;  // S and T: a still picture's frame is repeated
  std::uint16_t* y;        // [patches, 3 T S S]
  std::int64_t y_stride;
};
void start_cut_patches(const CutPatchesArguments& arguments, const Launch& launch);

// cos[p] = axis_cos[row of p], axis_cos[column of p]; sin alike.
struct PatchRotationsArguments {
  const float *axis_cos, *axis_sin;  // [rows or columns, quarter]
  PatchGrid grid;
  int quarter;
  float *cos, *sin;  // [patches, 2 quarter]
};
void start_patch_rotations(const PatchRotationsArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
