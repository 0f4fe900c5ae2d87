#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

// One thread a word.
__global__ void pack_int4_tiles(Int4TileArguments args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  wait_for_earlier_kernels();
  if (index >= args.row_blocks * args.col_blocks * 128) return;
  const int q = static_cast<int>(index % 4), lane = static_cast<int>(index / 4 % 32);
  const std::int64_t block = index / 128, row = block / args.col_blocks * 8 + lane / 4 - args.first_row;
  if (row < 0 || row >= args.rows) return;
  const std::int64_t first = block % args.col_blocks * 128 + q * 32 + lane % 4 * 8;
  std::uint32_t word = 0;
  for (int i = 0; i < 8; ++i) {
    const std::int64_t col = first + i;
    std::uint32_t code = 8;  // 0
    if (col < args.cols) code = ((args.payload[row * args.payload_stride + col / 2] >> (col % 2 * 4)) & 0xfu) ^ 8u;
    word |= code << (i / 2 * 4 + i % 2 * 16);
  }
  args.tiles[index] = word;
}

}  // namespace

void start_pack_int4_tiles(const Int4TileArguments& arguments, const Launch& launch) {
  constexpr std::int64_t kThreads = 256, kWords = 128;
  const std::int64_t words = arguments.row_blocks * arguments.col_blocks * kWords;
  start_kernel(launch, "cuda linear", pack_int4_tiles, dim3(static_cast<unsigned>((words + kThreads - 1) / kThreads)),
               dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
