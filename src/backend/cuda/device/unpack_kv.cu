// From the codes of a sequence to the bf16 that prompts' attention takes: a block a page and key-value head.
#include "backend/cuda/device/kv_codes.cuh"
#include "backend/cuda/device/paged_kv.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 128;

template <class Codes>
__device__ std::uint32_t unpack_pair(std::uint32_t codes, float scale) {
  return pack_bf16x2(Codes::value(codes) * scale, Codes::value(codes >> 8) * scale);
}

template <class Codes>
__global__ void unpack_kv(UnpackKvArguments args) {
  const int first = blockIdx.x * kPageTokens, head = blockIdx.y, dim = args.codes.head_dim;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const std::int64_t from = key_offset(args.codes, args.sequence, head, first),
                     to = key_offset(args.target, 0, head, first);
  for (const bool is_value : {false, true}) {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(is_value ? args.codes.v : args.codes.k) + from;
    std::uint16_t* target = (is_value ? args.target.v : args.target.k) + to;
    const float scale = (is_value ? args.codes.v_scales : args.codes.k_scales)[head];
    for (int i = threadIdx.x * 8; i < kPageTokens * dim; i += kThreads * 8) {
      uint2 words = make_uint2(0, 0);
      if (first + i / dim < args.tokens) words = *reinterpret_cast<const uint2*>(codes + i);
      *reinterpret_cast<uint4*>(target + i) =
          make_uint4(unpack_pair<Codes>(words.x, scale), unpack_pair<Codes>(words.x >> 16, scale),
                     unpack_pair<Codes>(words.y, scale), unpack_pair<Codes>(words.y >> 16, scale));
    }
  }
}

}  // namespace

void start_unpack_kv(const UnpackKvArguments& arguments, const Launch& launch) {
  const dim3 blocks(static_cast<unsigned>((arguments.tokens + kPageTokens - 1) / kPageTokens),
                    static_cast<unsigned>(arguments.codes.kv_heads));
  const auto kernel = arguments.codes.element == KvElement::kInt8 ? unpack_kv<Int8Codes> : unpack_kv<E4m3Codes>;
  start_kernel(launch, "cuda unpack_kv", kernel, blocks, dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
