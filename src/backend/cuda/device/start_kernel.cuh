#pragma once
// The one way in which kernels are started.

#include <cuda_runtime.h>

#include <string_view>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/launch.h"

namespace halftone::cuda {

// Lets a kernel ask for up to `bytes` of shared memory a launch, where the default of 48 KiB does not do.
template <typename... Parameters>
void allow_shared_memory(void (*kernel)(Parameters...), std::size_t bytes, std::string_view where) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), where);
}

template <typename... Parameters, typename... Arguments>
void start_kernel(const Launch& launch, std::string_view where, void (*kernel)(Parameters...), dim3 blocks,
                  dim3 threads, std::size_t shared_bytes, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = launch.stream;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &overlap;
  config.numAttrs = launch.overlap ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), where);
}

}  // namespace halftone::cuda
