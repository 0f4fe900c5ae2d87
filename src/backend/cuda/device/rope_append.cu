// RoPE of q and k and the move of k and v into the cache: one block a token and head.
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/paged_kv.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

__global__ void rope_append(RopeAppendArguments args) {
  const int token = blockIdx.x, head = blockIdx.y, half = args.kv.head_dim / 2;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  std::uint16_t* x = args.qkv + token * args.qkv_stride + head * args.kv.head_dim;
  const int kv_head = (head - args.heads) % args.kv.kv_heads;
  const bool is_q = head < args.heads, is_v = head >= args.heads + args.kv.kv_heads;
  std::uint16_t* target = x;
  if (!is_q) {
    target = (is_v ? args.kv.v : args.kv.k) + key_offset(args.kv, args.sequences[token], kv_head, args.slots[token]);
  }
  const std::int64_t turn = static_cast<std::int64_t>(args.positions ? args.positions[token] : token) * half;
  for (int j = threadIdx.x; j < half; j += blockDim.x) {
    const float low = bf16_value(x[j]), high = bf16_value(x[j + half]);
    if (is_v) {
      target[j] = x[j];
      target[j + half] = x[j + half];
      continue;
    }
    const float cos = args.cos[turn + j], sin = args.sin[turn + j];
    target[j] = bf16_code(round_bf16(low * cos) - round_bf16(high * sin));
    target[j + half] = bf16_code(round_bf16(high * cos) + round_bf16(low * sin));
  }
}

}  // namespace

void start_rope_append(const RopeAppendArguments& arguments, const Launch& launch) {
  const dim3 blocks(static_cast<unsigned>(arguments.tokens),
                    static_cast<unsigned>(arguments.heads + 2 * arguments.kv.kv_heads));
  start_kernel(launch, "cuda rope_append", rope_append, blocks, dim3(kMaxHeadDim / 2), 0, arguments);
}

}  // namespace halftone::cuda
