// RoPE of q and k and the move of k and v into the cache: one block a token.
#include <type_traits>

#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/kv_codes.cuh"
#include "backend/cuda/device/paged_kv.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 256;

// Neighbours that are read and written at once.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Few {
  T values[kWidth];
};
template <int kWidth, typename T>
__device__ __forceinline__ Few<T, kWidth> load_few(const T* address) {
  return *reinterpret_cast<const Few<T, kWidth>*>(address);
}
template <int kWidth, typename T>
__device__ __forceinline__ void store_few(T* address, const T (&values)[kWidth]) {
  Few<T, kWidth> few;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) few.values[i] = values[i];
  *reinterpret_cast<Few<T, kWidth>*>(address) = few;
}

// In the place of Codes for a cache in bf16.
struct NoCodes {};
template <class Codes>
constexpr bool kHasCodes = !std::is_same_v<Codes, NoCodes>;

// kWidth pairs (j, j + half) of a head, rotated but for v, go to bf16 `target`, or where there are any to `codes` of `scale`.
template <class Codes, int kWidth>
__device__ __forceinline__ void move_pairs(const std::uint16_t* x, const float* cos, const float* sin, int half,
                                           std::uint16_t* target, std::uint8_t* codes, float scale) {
  const auto low = load_few<kWidth>(x), high = load_few<kWidth>(x + half);
  std::uint16_t first[kWidth], second[kWidth];
  if (cos) {
    const auto cosines = load_few<kWidth>(cos), sines = load_few<kWidth>(sin);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float a = bf16_value(low.values[i]), b = bf16_value(high.values[i]);
      first[i] = bf16_code(round_bf16(a * cosines.values[i]) - round_bf16(b * sines.values[i]));
      second[i] = bf16_code(round_bf16(b * cosines.values[i]) + round_bf16(a * sines.values[i]));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) first[i] = low.values[i], second[i] = high.values[i];
  }
  if constexpr (kHasCodes<Codes>) {
    if (codes) {
      std::uint8_t first_codes[kWidth], second_codes[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const std::uint16_t both =
            Codes::pack(__fdiv_rn(bf16_value(first[i]), scale), __fdiv_rn(bf16_value(second[i]), scale));
        first_codes[i] = static_cast<std::uint8_t>(both & 0xff);
        second_codes[i] = static_cast<std::uint8_t>(both >> 8);
      }
      store_few<kWidth>(codes, first_codes);
      store_few<kWidth>(codes + half, second_codes);
      return;
    }
  }
  store_few<kWidth>(target, first);
  store_few<kWidth>(target + half, second);
}

// kWidth: 4 where rows begin at multiples of as many elements, else 1.
template <class Codes, int kWidth>
__global__ void __launch_bounds__(kThreads) rope_append(RopeAppendArguments args) {
  const int token = blockIdx.x, half = args.kv.head_dim / 2, items = half / kWidth;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const std::int64_t turn = static_cast<std::int64_t>(args.positions ? args.positions[token] : token) * half;
  const std::int64_t slot = key_offset(args.kv, args.sequences[token], 0, args.slots[token]);
  for (int i = threadIdx.x; i < (args.heads + 2 * args.kv.kv_heads) * items; i += kThreads) {
    const int head = i / items, j = i % items * kWidth, other = head - args.heads;  // of k, then of v
    std::uint16_t* x = args.qkv + token * args.qkv_stride + head * args.kv.head_dim + j;
    const bool is_v = other >= args.kv.kv_heads;
    const float *cos = is_v ? nullptr : args.cos + turn + j, *sin = args.sin + turn + j;
    if (other < 0) {
      move_pairs<Codes, kWidth>(x, cos, sin, half, x, nullptr, 1.0f);
      continue;
    }
    const int kv_head = other - (is_v ? args.kv.kv_heads : 0);
    const std::int64_t offset = slot + static_cast<std::int64_t>(kv_head) * kPageTokens * args.kv.head_dim + j;
    std::uint16_t* cache = is_v ? args.kv.v : args.kv.k;
    if constexpr (kHasCodes<Codes>) {
      move_pairs<Codes, kWidth>(x, cos, sin, half, nullptr, reinterpret_cast<std::uint8_t*>(cache) + offset,
                                (is_v ? args.kv.v_scales : args.kv.k_scales)[kv_head]);
    } else {
      move_pairs<Codes, kWidth>(x, cos, sin, half, cache + offset, nullptr, 1.0f);
    }
  }
}

template <class Codes>
void start(const RopeAppendArguments& arguments, const Launch& launch) {
  constexpr int kWidth = 4;
  const auto aligned = [](const void* address, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
  };
  // a head's half is a multiple of kWidth, and so is where a key begins in the cache
  const bool wide = arguments.qkv_stride % kWidth == 0 && aligned(arguments.qkv, 8) && aligned(arguments.cos, 16) &&
                    aligned(arguments.sin, 16) && aligned(arguments.kv.k, 8) && aligned(arguments.kv.v, 8);
  const auto kernel = wide ? rope_append<Codes, kWidth> : rope_append<Codes, 1>;
  start_kernel(launch, "cuda rope_append", kernel, dim3(static_cast<unsigned>(arguments.tokens)), dim3(kThreads), 0,
               arguments);
}

}  // namespace

void start_rope_append(const RopeAppendArguments& arguments, const Launch& launch) {
  switch (arguments.kv.element) {
    case KvElement::kBF16:
      return start<NoCodes>(arguments, launch);
    case KvElement::kE4M3:
      return start<E4m3Codes>(arguments, launch);
    case KvElement::kInt8:
      return start<Int8Codes>(arguments, launch);
  }
}

}  // namespace halftone::cuda
