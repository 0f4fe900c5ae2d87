// RoPE of q and k and the move of k and v into the cache: one block a token and head.
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/kv_codes.cuh"
#include "backend/cuda/device/paged_kv.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

// Where a token's key or value goes in a cache of codes.
struct CodeRow {
  std::uint8_t* codes;
  float scale;

  __device__ void store(int j, float x) const { codes[j] = e4m3_code(__fdiv_rn(x, scale)); }
};

template <bool kCodes>
__global__ void rope_append(RopeAppendArguments args) {
  const int token = blockIdx.x, head = blockIdx.y, half = args.kv.head_dim / 2;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  std::uint16_t* x = args.qkv + token * args.qkv_stride + head * args.kv.head_dim;
  const int kv_head = (head - args.heads) % args.kv.kv_heads;
  const bool is_q = head < args.heads, is_v = head >= args.heads + args.kv.kv_heads;
  std::uint16_t* target = x;
  CodeRow row{};
  if (!is_q) {
    const std::int64_t offset = key_offset(args.kv, args.sequences[token], kv_head, args.slots[token]);
    target = is_v ? args.kv.v : args.kv.k;
    if constexpr (kCodes) {
      row = {reinterpret_cast<std::uint8_t*>(target) + offset, (is_v ? args.kv.v_scales : args.kv.k_scales)[kv_head]};
    } else {
      target += offset;
    }
  }
  const std::int64_t turn = static_cast<std::int64_t>(args.positions ? args.positions[token] : token) * half;
  for (int j = threadIdx.x; j < half; j += blockDim.x) {
    const float low = bf16_value(x[j]), high = bf16_value(x[j + half]);
    if (is_v) {
      if constexpr (kCodes) {
        row.store(j, low);
        row.store(j + half, high);
      } else {
        target[j] = x[j];
        target[j + half] = x[j + half];
      }
      continue;
    }
    const float cos = args.cos[turn + j], sin = args.sin[turn + j];
    const std::uint16_t first = bf16_code(round_bf16(low * cos) - round_bf16(high * sin)),
                        second = bf16_code(round_bf16(high * cos) + round_bf16(low * sin));
    if (kCodes && !is_q) {
      row.store(j, bf16_value(first));
      row.store(j + half, bf16_value(second));
    } else {
      target[j] = first;
      target[j + half] = second;
    }
  }
}

}  // namespace

void start_rope_append(const RopeAppendArguments& arguments, const Launch& launch) {
  const dim3 blocks(static_cast<unsigned>(arguments.tokens),
                    static_cast<unsigned>(arguments.heads + 2 * arguments.kv.kv_heads));
  const auto kernel = arguments.kv.holds_codes() ? rope_append<true> : rope_append<false>;
  start_kernel(launch, "cuda rope_append", kernel, blocks, dim3(kMaxHeadDim / 2), 0, arguments);
}

}  // namespace halftone::cuda
