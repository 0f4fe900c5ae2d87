#pragma once
// The CUDA devices of this machine, as far as this build can use them.

#include <cstdint>
#include <string>
#include <vector>

namespace halftone {

struct CudaDevice {
  std::string name;            // "NVIDIA H200"
  int compute_capability = 0;  // 90 is 9.0
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0, l2_bytes = 0;
  int driver_version = 0,
      runtime_version = 0;  // the CUDA version that the driver speaks, and this program's: 13000 is 13.0
};

// True when the CUDA backend was built.
bool built_with_cuda();

// Throws Error("[cuda] ...") that says why there are none: no CUDA in this build, no driver, a driver that is too old, no
// device.
std::vector<CudaDevice> list_cuda_devices();

}  // namespace halftone
