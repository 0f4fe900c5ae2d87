#pragma once
// The kernels behind linear(), by raw pointers; src/backend/cuda/linear.cpp checks what they are given.

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/prepare_input.h"

namespace halftone::cuda {

enum class CodeType : int { kBF16, kInt8, kE4M3, kInt4, kE2M1, kNF4, kF16, kF32 };
enum class ScaleType : int { kF32, kBF16, kF16, kE4M3, kE8M0 };
// What start_linear_decode() does with the scales of groups; a chunk is decode_chunk() inputs.
enum class Scaling : int {
  kNone,      // there are none
  kChunk,     // one for a chunk or for 2^i of them: it multiplies their sums
  kParts,     // one for 32 or 64 inputs of a chunk that is longer: it multiplies their sums
  kOperands,  // E4M3 or E8M0, for 16 to 64 E2M1 codes: it multiplies each of them, which bf16 holds
  kOther,     // the kernel does not read such a weight
};

constexpr int kTileRows = 8, kTileCols = 128, kTileBytes = 512;  // of start_pack_nibble_tiles()
constexpr bool lies_in_tiles(CodeType type) {
  return type == CodeType::kInt4 || type == CodeType::kE2M1 || type == CodeType::kNF4;
}
constexpr int kInputGroup = 128;   // inputs of a token under one scale, where groups of them have scales
constexpr int kTokenBlock = 8;     // tokens that the matrix units take at once
constexpr int kDecodeTokens = 64;  // that start_linear_decode() takes at most

// The members of LinearWeight and LinearCall; strides of x are in bytes, those of y and of the residual in elements.
struct LinearArguments {
  const char* codes;
  std::int64_t row_bytes;
  const void* group_scales;
  const std::uint16_t* group_zeros;
  const float* group_shifts;
  const float *row_scales, *row_factors, *bias, *x_scales;
  const float* x_group_scales;  // [M, x_groups], each of kInputGroup inputs; or null
  const char* x;
  std::int64_t x_stride;
  void* y;
  std::int64_t y_stride;
  const std::uint16_t* residual;
  std::int64_t residual_stride;
  CodeType code_type;
  ScaleType group_scale_type;
  Scaling scaling;
  bool halves;  // bytes lie as ByteRowArguments::halves says
  bool y_f32, integers;
  // rows n and n + N / 2 are the gate and the value of output n: y[m, n] = bf16(bf16(silu(gate)) value), [M, N / 2]
  bool silu_mul;
  int m, n, k, group, group_stride, x_groups;
  int group_shift;  // group is 2^group_shift for all that start_linear_decode() reads
  // start_linear_decode() alone: the rows of x are `in` before they are prepared, and x is unused
  bool prepares;
  bool e4m3;  // x is E4M3, one byte each
  InputRows in;
};

// warps: of a block, 4, 8 or 16. The order of summation hangs on it.
void start_linear_decode(const LinearArguments& arguments, int warps, const Launch& launch);
void start_linear_decode_groups(const LinearArguments& arguments, int warps, const Launch& launch);  // a part of it
// The rows of x and y from `first` on, `count` of them.
LinearArguments token_slice(LinearArguments arguments, int first, int count);
// What the device has for start_linear_decode(). clusters: whether blocks can read one another's shared memory.
struct BatchDevice {
  int multiprocessors;
  std::size_t shared;  // bytes of a multiprocessor
  bool clusters;
};
BatchDevice batch_device();
// Bytes of shared memory that the rows of x of one product may take there, and what m rows of `row_bytes` bytes take.
constexpr int kMostStagedBytes = 40 * 1024;
constexpr int staged_stride(int row_bytes) { return (row_bytes + 255) / 256 * 256 + 64; }
// Inputs of a row that a warp takes at once.
int decode_chunk(CodeType type);
void start_linear_any(const LinearArguments& arguments, const Launch& launch);

struct NibbleTileArguments {
  const std::uint8_t* payload;  // [rows, payload_stride]: the even input in the low nibble
  std::int64_t payload_stride;
  std::uint32_t flips;    // of each code these bits are turned
  std::uint32_t padding;  // the code of what lies beyond the payload's inputs
  std::uint32_t* tiles;
  std::int64_t rows, cols;  // of the payload
  std::int64_t first_row;   // of the tiled matrix: where the payload's row 0 goes
  std::int64_t row_blocks, col_blocks;
};

// Brings codes of 4 bits into the order of start_linear_decode(): tiles of 8 rows and 128 inputs, 512 bytes each, those of 8
// rows one after another along K. Within a tile 16 bytes belong to lane 4 r + t: four words for row r; word q holds the
// eight inputs 32 q + 8 t + {0 .. 7}, the even ones in the low half, the odd ones in the high half, ascending. INT4 in two's
// complement becomes code + 8 by turning its highest bit. Words of rows that are not the payload's stay as they are.
void start_pack_nibble_tiles(const NibbleTileArguments& arguments, const Launch& launch);

enum class ByteCodes : int { kSame, kE3M2, kE2M3, kE5M2 };

struct ByteRowArguments {
  const std::uint8_t* payload;  // [rows, cols]
  ByteCodes codes;
  char* target;  // [rows], row_bytes each
  std::int64_t row_bytes;
  std::int64_t rows, cols;
  // Of 64 inputs the pieces of eight 0 4 1 5 2 6 3 7 follow one another: 16 bytes belong to a lane of start_linear_decode(),
  // the first eight of them to the chunk's first 32 inputs.
  bool halves;
};

// Where input k, a multiple of eight, begins in such a row.
constexpr std::int64_t place_in_halves(std::int64_t k) { return k / 64 * 64 + k % 32 / 8 * 16 + k % 64 / 32 * 8; }

// Writes rows of codes of one byte; those of 6 bits as the same numbers in E4M3, E5M2 as bf16, which both hold them all.
// What is beyond `cols` in the last eight inputs becomes 0, the rest of a row stays as it is.
void start_pack_byte_rows(const ByteRowArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
