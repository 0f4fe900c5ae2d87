#pragma once
// The weights of every format on the device, eight inputs of a row at a time: for kernels that are not made for one format.

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/e8m0.h"
#include "formats/nf4.h"

namespace halftone::cuda {

constexpr int kPieceCodes = 8;

// Levels of NF4 in shared memory: 16 banks, so that lanes with different codes do not wait for each other.
using CodeLevels = float[16];

// By all threads of a block, which must wait for each other before they read.
template <int kCode = 0>
__device__ __forceinline__ void load_levels(const LinearArguments& args, CodeLevels& levels) {
  constexpr float level = nf4::kLevels[kCode];
  if (args.code_type == CodeType::kNF4 && threadIdx.x == kCode) levels[kCode] = level;
  if constexpr (kCode < 15) load_levels<kCode + 1>(args, levels);
}

// Eight codes as they lie: one word of a tile, two words of bytes, four of 16 bits, eight of f32.
struct RawPiece {
  std::uint32_t words[8];
};

// Of row n from input k on, a multiple of 8.
__device__ __forceinline__ void load_codes(const LinearArguments& args, std::int64_t n, int k, RawPiece& piece) {
  if (lies_in_tiles(args.code_type)) {
    const int lane = static_cast<int>(n % 8) * 4 + k % 32 / 8;
    const char* tile = args.codes + n / 8 * args.row_bytes + static_cast<std::int64_t>(k / kTileCols) * kTileBytes;
    piece.words[0] = reinterpret_cast<const std::uint32_t*>(tile)[lane * 4 + k % kTileCols / 32];
    return;
  }
  const char* row = args.codes + n * args.row_bytes;
  if (args.code_type == CodeType::kInt8 || args.code_type == CodeType::kE4M3) {
    const std::int64_t at = args.halves ? place_in_halves(k) : k;
    const uint2 words = *reinterpret_cast<const uint2*>(row + at);
    piece.words[0] = words.x, piece.words[1] = words.y;
    return;
  }
  const int bytes = args.code_type == CodeType::kF32 ? 4 : 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half * 4 >= bytes * 2) break;
    const uint4 words = reinterpret_cast<const uint4*>(row + static_cast<std::int64_t>(k) * bytes)[half];
    piece.words[half * 4] = words.x, piece.words[half * 4 + 1] = words.y;
    piece.words[half * 4 + 2] = words.z, piece.words[half * 4 + 3] = words.w;
  }
}

// Code i of a piece, before zeros and scales.
__device__ __forceinline__ float code_of(CodeType type, const RawPiece& piece, int i, const CodeLevels& levels) {
  const std::uint32_t nibble = piece.words[0] >> (i / 2 * 4 + i % 2 * 16) & 0xf;
  const std::uint32_t byte = piece.words[i / 4] >> (i % 4 * 8) & 0xff;
  const auto half = static_cast<std::uint16_t>(piece.words[i / 2] >> (i % 2 * 16) & 0xffff);
  switch (type) {
    case CodeType::kInt4:
      return static_cast<float>(static_cast<int>(nibble) - 8);
    case CodeType::kE2M1:
      return e2m1::decode(static_cast<std::uint8_t>(nibble));
    case CodeType::kNF4:
      return levels[nibble];
    case CodeType::kInt8:
      return static_cast<float>(static_cast<signed char>(byte));
    case CodeType::kE4M3:
      return e4m3::decode(static_cast<std::uint8_t>(byte));
    case CodeType::kBF16:
      return bf16_value(half);
    case CodeType::kF16:
      return f16_value(half);
    default:
      return __uint_as_float(piece.words[i]);
  }
}

// Where the scale, the zero and the shift of an input's group lie.
__device__ __forceinline__ std::int64_t group_index(const LinearArguments& args, std::int64_t n, int k) {
  return (n / kTileRows * args.group_stride + k / args.group) * kTileRows + n % kTileRows;
}

__device__ __forceinline__ float group_zero(const LinearArguments& args, std::int64_t index) {
  return args.group_zeros ? bf16_value(args.group_zeros[index]) - 136.0f : 0.0f;
}

__device__ __forceinline__ float group_scale(const LinearArguments& args, std::int64_t index) {
  const auto* bytes = static_cast<const std::uint8_t*>(args.group_scales);
  const auto* halves = static_cast<const std::uint16_t*>(args.group_scales);
  switch (args.group_scale_type) {
    case ScaleType::kF32:
      return static_cast<const float*>(args.group_scales)[index];
    case ScaleType::kBF16:
      return bf16_value(halves[index]);
    case ScaleType::kF16:
      return f16_value(halves[index]);
    case ScaleType::kE4M3:
      return e4m3::decode(bytes[index]);
    default:
      return e8m0::decode(bytes[index]);
  }
}

// The weights of a piece without the scales of rows, 0 from K on: values[i] * the result, which is the scale of their group.
// Where eight inputs may have several scales, and where weights are shifted, values are whole and the result is 1.
__device__ __forceinline__ float piece_values(const LinearArguments& args, const RawPiece& piece, std::int64_t n, int k,
                                              const CodeLevels& levels, float (&values)[kPieceCodes]) {
  const bool whole = args.group_shifts || args.group % kPieceCodes != 0;
  float scale = 1.0f, zero = 0.0f;
  if (args.group_scales && !whole) {
    const std::int64_t index = group_index(args, n, k);
    scale = group_scale(args, index);
    zero = group_zero(args, index);
  }
#pragma unroll
  for (int i = 0; i < kPieceCodes; ++i) {
    values[i] = k + i < args.k ? code_of(args.code_type, piece, i, levels) - zero : 0.0f;
    if (!args.group_scales || !whole || k + i >= args.k) continue;
    const std::int64_t index = group_index(args, n, k + i);
    const float* shift = args.group_shifts ? args.group_shifts + 2 * index : nullptr;
    values[i] = fmaf(values[i] - (shift ? shift[0] : group_zero(args, index)), group_scale(args, index),
                     shift ? shift[1] : 0.0f);
  }
  return scale;
}

}  // namespace halftone::cuda
