#pragma once
// The codes, zeros and scales of a weight on the device, one at a time and in every format: for kernels that do not live
// from reading them fast.

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"
#include "formats/e4m3.h"

namespace halftone::cuda {

// The code of (row, col) among the words of start_pack_int4_tiles().
__device__ __forceinline__ std::uint32_t int4_tile_code(const LinearArguments& args, std::int64_t row,
                                                        std::int64_t col) {
  const int lane = static_cast<int>(row % 8 * 4 + col % 32 / 8), i = static_cast<int>(col % 8);
  const char* tile = args.codes + row / 8 * args.row_bytes + col / 128 * 512;
  return reinterpret_cast<const std::uint32_t*>(tile)[lane * 4 + col % 128 / 32] >> (i / 2 * 4 + i % 2 * 16) & 0xf;
}

// Before zeros and scales.
__device__ __forceinline__ float any_code(const LinearArguments& args, std::int64_t n, std::int64_t k) {
  const char* row = args.codes + n * args.row_bytes;
  switch (args.code_type) {
    case CodeType::kBF16:
      return bf16_value(reinterpret_cast<const std::uint16_t*>(row)[k]);
    case CodeType::kInt8:
      return static_cast<float>(reinterpret_cast<const signed char*>(row)[k]);
    case CodeType::kE4M3:
      return e4m3::decode(static_cast<std::uint8_t>(row[k]));
    default:
      return static_cast<float>(static_cast<int>(int4_tile_code(args, n, k)) - 8);
  }
}

// Where the scale and the zero of a row's group lie.
__device__ __forceinline__ std::int64_t group_index(std::int64_t n, std::int64_t group, std::int64_t groups) {
  return (n / kTileRows * groups + group) * kTileRows + n % kTileRows;
}

__device__ __forceinline__ float any_zero(const LinearArguments& args, std::int64_t index) {
  return args.group_zeros ? bf16_value(args.group_zeros[index]) - 136.0f : 0.0f;
}

__device__ __forceinline__ float any_scale(const LinearArguments& args, std::int64_t index) {
  if (args.group_scale_type == ScaleType::kF32) return static_cast<const float*>(args.group_scales)[index];
  const std::uint16_t code = static_cast<const std::uint16_t*>(args.group_scales)[index];
  return args.group_scale_type == ScaleType::kBF16 ? bf16_value(code) : f16_value(code);
}

}  // namespace halftone::cuda
