#pragma once
// E4M3 codes of a cache: from f32 as e4m3::encode_saturated() makes them, and back.

#include "backend/cuda/device/instructions.cuh"
#include "formats/e4m3.h"

namespace halftone::cuda {

// Two codes, the first in the low byte.
__device__ __forceinline__ std::uint16_t pack_e4m3x2(float low, float high) {
#if __CUDA_ARCH__ >= 890
  std::uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
#else
  return static_cast<std::uint16_t>(e4m3::encode_saturated(low) | e4m3::encode_saturated(high) << 8);
#endif
}

__device__ __forceinline__ std::uint8_t e4m3_code(float x) {
  return static_cast<std::uint8_t>(pack_e4m3x2(x, 0.0f) & 0xff);
}

// Four bf16 divided by a scale, as codes.
__device__ __forceinline__ std::uint32_t e4m3_codes(std::uint32_t first, std::uint32_t second, float scale) {
  const auto codes = [&](std::uint32_t pair) -> std::uint32_t {
    return pack_e4m3x2(__fdiv_rn(__uint_as_float(pair << 16), scale),
                       __fdiv_rn(__uint_as_float(pair & 0xffff0000u), scale));
  };
  return codes(first) | codes(second) << 16;
}

// Not zero where one of four codes is NaN, which E4m3Words::pair() makes a number of.
__device__ __forceinline__ std::uint32_t find_nan(std::uint32_t codes) {
  return ((codes & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
}

}  // namespace halftone::cuda
