#pragma once
// What the library's E4M3 products with scales by 128 inputs take, by raw pointers.

#include "backend/cuda/device/linear.h"

namespace halftone::cuda {

// INT4 codes, which E4M3 holds, with symmetric scales by 128 inputs.
//   codes: [N, stride] E4M3, stride a multiple of 8.  scales: [ceil(K / 128), N].
void start_expand_int4(const LinearArguments& arguments, std::uint8_t* codes, std::int64_t stride, float* scales,
                       const Launch& launch);

struct InputScaleArguments {
  const float* scales;  // [m, groups] or, by token, [m]; null: all are 1
  bool by_group;
  float* target;  // [groups, rows], zeros from row m on
  int m, rows, groups;
};
void start_spread_input_scales(const InputScaleArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
