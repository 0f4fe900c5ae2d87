#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/start_kernel.cuh"
#include "formats/e2m3.h"
#include "formats/e3m2.h"
#include "formats/e4m3.h"
#include "formats/e5m2.h"

namespace halftone::cuda {
namespace {

constexpr std::int64_t kThreads = 256;

// One thread a word.
__global__ void pack_nibble_tiles(NibbleTileArguments args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  wait_for_earlier_kernels();
  if (index >= args.row_blocks * args.col_blocks * 128) return;
  const int q = static_cast<int>(index % 4), lane = static_cast<int>(index / 4 % 32);
  const std::int64_t block = index / 128, row = block / args.col_blocks * kTileRows + lane / 4 - args.first_row;
  if (row < 0 || row >= args.rows) return;
  const std::int64_t first = block % args.col_blocks * kTileCols + q * 32 + lane % 4 * 8;
  std::uint32_t word = 0;
  for (int i = 0; i < 8; ++i) {
    const std::int64_t col = first + i;
    std::uint32_t code = args.padding;
    if (col < args.cols) {
      code = ((args.payload[row * args.payload_stride + col / 2] >> (col % 2 * 4)) & 0xfu) ^ args.flips;
    }
    word |= code << (i / 2 * 4 + i % 2 * 16);
  }
  args.tiles[index] = word;
}

__device__ std::uint8_t byte_of(ByteCodes codes, std::uint8_t code) {
  return codes == ByteCodes::kE3M2   ? e4m3::encode(e3m2::decode(code))
         : codes == ByteCodes::kE2M3 ? e4m3::encode(e2m3::decode(code))
                                     : code;
}

// One thread eight inputs.
__global__ void pack_byte_rows(ByteRowArguments args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t pieces = (args.cols + 7) / 8, row = index / pieces, k = index % pieces * 8;
  wait_for_earlier_kernels();
  if (row >= args.rows) return;
  const std::int64_t at = args.halves ? place_in_halves(k) : k;
  char* target = args.target + row * args.row_bytes;
  for (int i = 0; i < 8; ++i) {
    const bool there = k + i < args.cols;
    const std::uint8_t code = there ? args.payload[row * args.cols + k + i] : 0;
    if (args.codes == ByteCodes::kE5M2) {
      reinterpret_cast<std::uint16_t*>(target)[at + i] = bf16_code(e5m2::decode(code));
    } else {
      reinterpret_cast<std::uint8_t*>(target)[at + i] = there ? byte_of(args.codes, code) : 0;
    }
  }
}

dim3 blocks_of(std::int64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); }

}  // namespace

void start_pack_nibble_tiles(const NibbleTileArguments& arguments, const Launch& launch) {
  constexpr std::int64_t kWords = 128;
  start_kernel(launch, "cuda linear", pack_nibble_tiles,
               blocks_of(arguments.row_blocks * arguments.col_blocks * kWords), dim3(kThreads), 0, arguments);
}

void start_pack_byte_rows(const ByteRowArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda linear", pack_byte_rows, blocks_of(arguments.rows * ((arguments.cols + 7) / 8)),
               dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
