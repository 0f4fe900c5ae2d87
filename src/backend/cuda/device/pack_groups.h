#pragma once
// What stands beside groups of weights, from the order of files to that of LinearWeight::group_scales.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

// From what to what.
enum class GroupValues : int {
  kBytes,  // elements of 1, 2 or 4 bytes as they are
  kShorts,
  kWords,
  kE4M3,  // scales of one byte to bf16
  kE8M0,
  kInt4Zeros,  // I8 to bf16(136 + zero)
  kShifts,     // I8 zeros, or null, and f32 offsets, or null, to pairs of f32
};

struct GroupArguments {
  GroupValues values;
  const void* from;        // of a part, [ceil(rows / row_span), groups], or with one value for a whole row [.., 1]
  const float* offsets;    // kShifts alone, then `from` are the zeros
  void* to;                // [tiles of 8 rows, stride, 8]
  std::int64_t rows;       // of the part
  std::int64_t first_row;  // its place in the whole weight
  std::int64_t row_span;   // rows that share their values
  std::int64_t groups, stride;
  bool one_value;  // for a whole row
};

// Writes the values of the part's rows; what else is in the tiles stays as it is.
void start_pack_groups(const GroupArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
