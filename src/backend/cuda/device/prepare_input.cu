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

// E4M3 codes of groups and their scales: prepare_rows(), but that a block's row and its groups need no division to be found and
// codes none but their own.
template <bool kGates>
__device__ __forceinline__ void prepare_groups(const InputRows& in, InputScratch<1>& scratch, std::uint8_t* y) {
  constexpr int kGroup = 128, kLanes = kGroup / kPiece;
  constexpr float kLargestFloat = 3.402823466e38f;
  if (in.norm) normalize_rows<kGates>(in, scratch);
  const float inverse = in.norm ? scratch.inverse[0] : 1.0f;
  for (int first = 0; first < in.cols; first += static_cast<int>(blockDim.x) * kPiece) {
    const int col = first + static_cast<int>(threadIdx.x) * kPiece;
    float values[kPiece];
    hidden_piece<kGates>(in, 0, col, inverse, values);
    float amax = block_magnitude(in.codes, values);
#pragma unroll
    for (int lane = kLanes / 2; lane > 0; lane /= 2) amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, lane));
    if (col >= in.cols) continue;
    const float scale = amax / e4m3::kMax;
    const bool finite = scale <= kLargestFloat;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[i] = finite && scale > 0 ? values[i] / scale : 0.0f;
    store_piece(e4m3_piece(values), in.cols - col, y + col);
    if (threadIdx.x % kLanes == 0) in.group_scales[col / kGroup] = finite ? scale : __uint_as_float(0x7fc00000u);
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
  if (in.codes == InputCodes::kE4M3Group && in.group_scales && args.y_bytes) {
    return prepare_groups<kGates>(in, scratch, static_cast<std::uint8_t*>(args.y) + blockIdx.x * args.y_stride);
  }
  prepare_rows_at_once<kGates>(in, scratch, [&](int, int col, const float(&values)[kPiece]) {
    const std::int64_t at = blockIdx.x * args.y_stride + col;
    if (args.y_bytes) {
      const uint2 bytes = in.codes == InputCodes::kInt8 ? int8_piece(values) : e4m3_piece(values);
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
