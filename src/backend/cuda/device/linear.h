#pragma once
// The kernels behind linear(), by raw pointers; src/backend/cuda/linear.cpp checks what they are given.

#include <cstdint>

#include "backend/cuda/device/prepare_input.h"

namespace halftone::cuda {

enum class CodeType : int { kBF16, kInt8, kE4M3, kInt4 };
enum class ScaleType : int { kF32, kBF16, kF16 };

constexpr int kTileRows = 8;
constexpr int kTokenBlock = 8;     // tokens that the matrix units take at once
constexpr int kDecodeTokens = 64;  // that start_linear_decode() takes at most

// The members of LinearWeight and LinearCall; strides of x are in bytes, those of y and of the residual in elements.
struct LinearArguments {
  const char* codes;
  std::int64_t row_bytes;
  const void* group_scales;
  const std::uint16_t* group_zeros;
  const float *row_scales, *row_factors, *bias, *x_scales;
  const char* x;
  std::int64_t x_stride;
  void* y;
  std::int64_t y_stride;
  const std::uint16_t* residual;
  std::int64_t residual_stride;
  CodeType code_type;
  ScaleType group_scale_type;
  bool y_f32, integers;
  // rows n and n + N / 2 are the gate and the value of output n: y[m, n] = bf16(bf16(silu(gate)) value), [M, N / 2]
  bool silu_mul;
  int m, n, k, group;
  // start_linear_decode() alone: the rows of x are `in` before they are prepared, and x is unused
  bool prepares;
  InputRows in;
};

// warps: of a block, 4, 8 or 16. The order of summation hangs on it.
void start_linear_decode(const LinearArguments& arguments, int warps, const Launch& launch);
// Bytes of shared memory that the rows of x of one product may take there, and what m rows of `row_bytes` bytes take.
constexpr int kMostStagedBytes = 40 * 1024;
constexpr int staged_stride(int row_bytes) { return (row_bytes + 127) / 128 * 128 + 64; }
// Inputs of a row that a warp takes at once.
int decode_chunk(CodeType type);
void start_linear_any(const LinearArguments& arguments, const Launch& launch);

struct Int4TileArguments {
  const std::uint8_t* payload;  // [rows, payload_stride]: two's complement, the even input in the low nibble
  std::int64_t payload_stride;
  std::uint32_t* tiles;
  std::int64_t rows, cols;  // of the payload
  std::int64_t first_row;   // of the tiled matrix: where the payload's row 0 goes
  std::int64_t row_blocks, col_blocks;
};

// Brings INT4 codes into the order of start_linear_decode(): tiles of 8 rows and 128 inputs, 512 bytes each, those of 8 rows
// one after another along K. Within a tile 16 bytes belong to lane 4 r + t: four words for row r; word q holds the eight
// inputs 32 q + 8 t + {0 .. 7} as codes + 8, the even ones in the low half, the odd ones in the high half, ascending.
// Codes beyond the payload's inputs become 0, words of rows that are not the payload's stay as they are.
void start_pack_int4_tiles(const Int4TileArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
