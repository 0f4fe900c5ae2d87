// Whether each row's new token ends its sequence; the others go on by a place.
#include "backend/cuda/device/end_step.h"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/start_kernel.cuh"

namespace halftone::cuda {
namespace {

constexpr int kThreads = 64;

__global__ void __launch_bounds__(kThreads) end_step(EndStepArguments args) {
  wait_for_earlier_kernels();
  let_next_kernel_begin();
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (row >= args.rows || args.lengths[row] == 0) return;
  const TokenLimit limit = args.limits[row];
  const bool ends = limit.ends_with(args.tokens[row], {args.stop_tokens, static_cast<std::size_t>(args.stop_count)});
  args.limits[row] = limit.next();
  args.lengths[row] = ends ? 0 : args.lengths[row] + 1;
  if (!ends) ++args.positions[row];
  args.ended[row] = ends ? 1 : 0;
}

}  // namespace

void start_end_step(const EndStepArguments& arguments, const Launch& launch) {
  const auto blocks = static_cast<unsigned>((arguments.rows + kThreads - 1) / kThreads);
  start_kernel(launch, "cuda end_step", end_step, dim3(blocks), dim3(kThreads), 0, arguments);
}

}  // namespace halftone::cuda
