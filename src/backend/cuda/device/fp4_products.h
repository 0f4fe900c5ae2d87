#pragma once
// Products of E2M1 by E2M1 on Blackwell, by raw pointers. Compiled, but run nowhere yet.

#include "backend/cuda/device/linear.h"

namespace halftone::cuda {

// Codes with scales of blocks, as fp4_blocks.h says: codes [rows, K / 2], the even one in the low nibble; scales: tiles.
struct Fp4Codes {
  std::uint8_t *codes, *scales;
};

struct Fp4InputArguments {
  const std::uint16_t* x;  // [m, k] bf16, code times scale, rows at multiples of 16 bytes
  std::int64_t x_stride;
  int m, k;  // k: a multiple of 64
  bool mx;   // blocks of 32 with scales of E8M0, else of 16 with E4M3
  Fp4Codes to;
};
void start_pack_fp4_inputs(const Fp4InputArguments& arguments, const Launch& launch);

// From the tiles of start_pack_nibble_tiles(); scales of one byte, groups of 16 or 32, K a multiple of 64.
void start_pack_fp4_weight(const LinearArguments& arguments, const Fp4Codes& to, const Launch& launch);

// Whether the program was built for compute capability 12.0 ("120a"), whose instruction start_mxfp4_product() needs.
bool has_mxfp4_product();
// sums[m, n] = sum over k of x W, both in blocks of 32 with scales of E8M0, in ascending order of 64 inputs at once; on a device
// of compute capability 12.0.
struct Mxfp4Arguments {
  Fp4Codes x, w;
  float* sums;  // [m, n]
  int m, n, k;  // k: a multiple of 64
};
void start_mxfp4_product(const Mxfp4Arguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
