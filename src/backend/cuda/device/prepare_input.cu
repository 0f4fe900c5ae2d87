// One block a row.
#include "backend/cuda/device/input_rows.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kMostThreads = 32 * kMostRowWarps;

// The first `count` elements of a piece.
template <typename Element, typename Words>
__device__ __forceinline__ void store_piece(const Words& words, int count, Element* y) {
  if (count >= kPiece && reinterpret_cast<std::uintptr_t>(y) % sizeof(Words) == 0) {
    *reinterpret_cast<Words*>(y) = words;
    return;
  }
  const auto* elements = reinterpret_cast<const Element*>(&words);
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    if (i < count) y[i] = elements[i];
  }
}

template <bool kGates>
__global__ void __launch_bounds__(kMostThreads) prepare_input(PrepareInputArguments args) {
  __shared__ InputScratch<1> scratch;
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  InputRows in = args.in;
  in.x += blockIdx.x * in.x_stride;
  in.rows = 1;
  if (in.group_scales) in.group_scales += blockIdx.x * static_cast<std::int64_t>((in.cols + in.block - 1) / in.block);
  prepare_rows_at_once<kGates>(in, scratch, [&](int, int col, const float(&values)[kPiece]) {
    const std::int64_t at = blockIdx.x * args.y_stride + col;
    if (args.y_bytes) {
      const uint2 bytes = in.codes == InputCodes::kE4M3 ? e4m3_piece(values) : int8_piece(values);
      store_piece(bytes, in.cols - col, static_cast<std::uint8_t*>(args.y) + at);
    } else {
      store_piece(pack_bf16(values), in.cols - col, static_cast<std::uint16_t*>(args.y) + at);
    }
  });
  if (in.by_token && threadIdx.x == 0) args.y_scales[blockIdx.x] = scratch.step[0];
}

// Few warps where a row is short, for many blocks at once; else a thread takes three pieces, or more of them of long rows.
int threads_of(const InputRows& in) {
  constexpr int kFew = 128, kShort = 4096, kPieces = 3;
  if (in.cols <= kShort) return kFew;
  if (in.norm) return kMostThreads;
  const int warps = (in.cols + 32 * kPieces * kPiece - 1) / (32 * kPieces * kPiece);
  return 32 * (warps < kMostRowWarps ? warps : kMostRowWarps);
}

}  // namespace

void start_prepare_input(const PrepareInputArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda prepare_input", arguments.gates ? prepare_input<true> : prepare_input<false>,
               dim3(static_cast<unsigned>(arguments.in.rows)), dim3(static_cast<unsigned>(threads_of(arguments.in))), 0,
               arguments);
}

}  // namespace halftone::cuda
