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

// Whether most of a multiprocessor's memory is shared memory for a kernel, or as much as the driver finds good. It changes only
// where nothing runs, so kernels begin beside the one before them where both want the same.
template <typename... Parameters>
void divide_memory(void (*kernel)(Parameters...), bool most_is_shared, std::string_view where) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             most_is_shared ? cudaSharedmemCarveoutMaxShared : cudaSharedmemCarveoutDefault),
        where);
}

// cluster: blocks that read one another's shared memory, 1 on devices before 9.0.
template <typename... Parameters, typename... Arguments>
void start_clusters(const Launch& launch, std::string_view where, void (*kernel)(Parameters...), unsigned cluster,
                    dim3 blocks, dim3 threads, std::size_t shared_bytes, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = launch.stream;
  cudaLaunchAttribute attributes[2]{};
  config.attrs = attributes;
  const auto add = [&](cudaLaunchAttributeID id) -> cudaLaunchAttributeValue& {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = id;
    return attribute.val;
  };
  if (launch.overlap) {
    add(cudaLaunchAttributeProgrammaticStreamSerialization).programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) add(cudaLaunchAttributeClusterDimension).clusterDim = {cluster, 1, 1};
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), where);
}

template <typename... Parameters, typename... Arguments>
void start_kernel(const Launch& launch, std::string_view where, void (*kernel)(Parameters...), dim3 blocks,
                  dim3 threads, std::size_t shared_bytes, Arguments... arguments) {
  start_clusters(launch, where, kernel, 1, blocks, threads, shared_bytes, arguments...);
}

}  // namespace halftone::cuda
