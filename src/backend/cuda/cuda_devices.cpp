#include "ops/cuda_devices.h"

#include "backend/cuda/cuda_error.h"

namespace halftone {

bool built_with_cuda() { return true; }

std::vector<CudaDevice> list_cuda_devices() {
  int count = 0, driver = 0, runtime = 0;
  cuda::check(cudaGetDeviceCount(&count), "cuda");
  cuda::check(cudaDriverGetVersion(&driver), "cuda");
  cuda::check(cudaRuntimeGetVersion(&runtime), "cuda");
  std::vector<CudaDevice> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    cuda::check(cudaGetDeviceProperties(&properties, i), "cuda");
    devices.push_back({properties.name, properties.major * 10 + properties.minor, properties.multiProcessorCount,
                       static_cast<std::int64_t>(properties.totalGlobalMem), properties.l2CacheSize, driver, runtime});
  }
  return devices;
}

}  // namespace halftone
