#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/pack_groups.h"
#include "backend/cuda/device/start_kernel.cuh"
#include "formats/e4m3.h"
#include "formats/e8m0.h"

namespace halftone::cuda {
namespace {

constexpr std::int64_t kThreads = 256;

template <typename T>
__device__ void copy_value(const GroupArguments& args, std::int64_t from, std::int64_t to) {
  static_cast<T*>(args.to)[to] = static_cast<const T*>(args.from)[from];
}

__device__ void write_bf16(const GroupArguments& args, std::int64_t to, float value) {
  static_cast<std::uint16_t*>(args.to)[to] = bf16_code(value);
}

__device__ void pack_value(const GroupArguments& args, std::int64_t from, std::int64_t to) {
  switch (args.values) {
    case GroupValues::kBytes:
      return copy_value<std::uint8_t>(args, from, to);
    case GroupValues::kShorts:
      return copy_value<std::uint16_t>(args, from, to);
    case GroupValues::kWords:
      return copy_value<std::uint32_t>(args, from, to);
    case GroupValues::kE4M3:
      return write_bf16(args, to, e4m3::decode(static_cast<const std::uint8_t*>(args.from)[from]));
    case GroupValues::kE8M0:
      return write_bf16(args, to, e8m0::decode(static_cast<const std::uint8_t*>(args.from)[from]));
    case GroupValues::kInt4Zeros:
      return write_bf16(args, to, 136.0f + static_cast<float>(static_cast<const std::int8_t*>(args.from)[from]));
    case GroupValues::kShifts: {
      const float zero = args.from ? static_cast<float>(static_cast<const std::int8_t*>(args.from)[from]) : 0.0f;
      static_cast<float2*>(args.to)[to] = make_float2(zero, args.offsets ? args.offsets[from] : 0.0f);
    }
  }
}

// One thread a value, in the order in which they are written.
__global__ void pack_groups(GroupArguments args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  wait_for_earlier_kernels();
  const std::int64_t tile = args.first_row / kTileRows + index / (args.groups * kTileRows);
  const std::int64_t group = index / kTileRows % args.groups;
  const std::int64_t row = tile * kTileRows + index % kTileRows - args.first_row;
  if (row < 0 || row >= args.rows) return;
  const std::int64_t span = row / args.row_span;
  pack_value(args, args.one_value ? span : span * args.groups + group,
             (tile * args.stride + group) * kTileRows + index % kTileRows);
}

}  // namespace

void start_pack_groups(const GroupArguments& arguments, const Launch& launch) {
  const std::int64_t end = arguments.first_row + arguments.rows, first = arguments.first_row / kTileRows;
  const std::int64_t threads = ((end + kTileRows - 1) / kTileRows - first) * arguments.groups * kTileRows;
  start_kernel(launch, "cuda linear", pack_groups, dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
               dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
