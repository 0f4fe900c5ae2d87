// One block a patch.
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/picture_patches.h"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

// Row and column of a patch in the grid.
struct PatchPlace {
  int row, col;
  __device__ PatchPlace(const PatchGrid& grid, int patch) {
    const int in_block = patch % (grid.merge * grid.merge), block = patch / (grid.merge * grid.merge);
    const int blocks = grid.width / grid.merge;
    row = block / blocks * grid.merge + in_block / grid.merge;
    col = block % blocks * grid.merge + in_block % grid.merge;
  }
};

__global__ void cut_patches(CutPatchesArguments args) {
  const int size = args.patch_size, area = size * size;
  const PatchPlace place(args.grid, static_cast<int>(blockIdx.x));
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  std::uint16_t* y = args.y + blockIdx.x * args.y_stride;
  const std::int64_t width = static_cast<std::int64_t>(args.grid.width) * size;
  for (int i = threadIdx.x; i < 3 * area; i += blockDim.x) {
    const int channel = i / area, row = i % area / size, col = i % size;
    const std::int64_t pixel = (static_cast<std::int64_t>(place.row) * size + row) * width + place.col * size + col;
    const std::uint16_t code = bf16_code(args.values[channel * 256 + args.rgb[pixel * 3 + channel]]);
    for (int t = 0; t < args.frames; ++t) y[(channel * args.frames + t) * area + i % area] = code;
  }
}

__global__ void patch_rotations(PatchRotationsArguments args) {
  const PatchPlace place(args.grid, static_cast<int>(blockIdx.x));
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  for (int i = threadIdx.x; i < 2 * args.quarter; i += blockDim.x) {
    const int from = (i < args.quarter ? place.row : place.col) * args.quarter + i % args.quarter;
    const std::int64_t to = static_cast<std::int64_t>(blockIdx.x) * 2 * args.quarter + i;
    args.cos[to] = args.axis_cos[from];
    args.sin[to] = args.axis_sin[from];
  }
}

dim3 blocks_of(const PatchGrid& grid) { return dim3(static_cast<unsigned>(grid.height * grid.width)); }

}  // namespace

void start_cut_patches(const CutPatchesArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda vision", cut_patches, blocks_of(arguments.grid), dim3(192), 0, arguments);
}

void start_patch_rotations(const PatchRotationsArguments& arguments, const Launch& launch) {
  start_kernel(launch, "cuda vision", patch_rotations, blocks_of(arguments.grid), dim3(32), 0, arguments);
}

}  // namespace halftone::cuda
