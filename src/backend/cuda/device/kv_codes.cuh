#pragma once
// Codes of a cache: from f32 as formats/e4m3.h and formats/kv_int8.h make them, and back: one struct a format.
//
// pack(): two quotients, the first one's code in the low byte.  value(): of the code in the low byte.  pair(): two of four
// codes as bf16, which holds them exactly; of NaN it makes a number.  find_nan(): not zero where one of four codes is NaN.

#include "backend/cuda/device/code_words.cuh"
#include "formats/e4m3.h"
#include "formats/kv_int8.h"

namespace halftone::cuda {

struct E4m3Codes {
  static __device__ __forceinline__ std::uint16_t pack(float low, float high) {
#if __CUDA_ARCH__ >= 890
    std::uint16_t codes;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    return codes;
#else
    return static_cast<std::uint16_t>(e4m3::encode_saturated(low) | e4m3::encode_saturated(high) << 8);
#endif
  }
  static __device__ __forceinline__ float value(std::uint32_t codes) { return e4m3::decode(codes & 0xff); }
  template <int kFirst, int kSecond>
  static __device__ __forceinline__ std::uint32_t pair(std::uint32_t codes) {
    return E4m3Words::pair(__byte_perm(codes, 0, 0x0404 | kFirst << 4 | kSecond << 12));
  }
  static __device__ __forceinline__ std::uint32_t find_nan(std::uint32_t codes) {
    return ((codes & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
  }
};

struct Int8Codes {
  static __device__ __forceinline__ std::uint16_t pack(float low, float high) {
    return static_cast<std::uint16_t>((code(low) & 0xff) | (code(high) & 0xff) << 8);
  }
  static __device__ __forceinline__ float value(std::uint32_t codes) {
    return kv_int8::decode(static_cast<std::int8_t>(codes & 0xff));
  }
  template <int kFirst, int kSecond>
  static __device__ __forceinline__ std::uint32_t pair(std::uint32_t codes) {
    return Int8Words::pair(__byte_perm(codes, 0, 0x4040 | kFirst | kSecond << 8));
  }
  // A byte of 0x80.
  static __device__ __forceinline__ std::uint32_t find_nan(std::uint32_t codes) {
    const std::uint32_t other = codes ^ 0x80808080u;
    return (other - 0x01010101u) & ~other & 0x80808080u;
  }

 private:
  static __device__ __forceinline__ int code(float x) {
    constexpr int kMost = integer::kInt8Max;
    return x == x ? max(-kMost, min(kMost, __float2int_rn(x))) : kv_int8::kNan;
  }
};

// Four bf16 divided by a scale.
template <class Codes>
__device__ __forceinline__ std::uint32_t pack_codes(std::uint32_t first, std::uint32_t second, float scale) {
  const auto codes = [&](std::uint32_t pair) -> std::uint32_t {
    return Codes::pack(__fdiv_rn(__uint_as_float(pair << 16), scale),
                       __fdiv_rn(__uint_as_float(pair & 0xffff0000u), scale));
  };
  return codes(first) | codes(second) << 16;
}

}  // namespace halftone::cuda
