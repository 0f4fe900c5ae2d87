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

// What the first of them reaches at best, measured: the figures that every other one is compared with. A second.
struct CudaRoofline {
  double copy_bytes = 0;  // device to device, bytes read and written
  double read_bytes = 0;
  // Products of 8192 x 8192 x 8192 on random numbers by cuBLASLt; 0 where the device has no such product.
  double bf16_flops = 0, e4m3_flops = 0, int8_ops = 0;
};
// Takes about a second and 5 GB of the device's memory. Throws Error("[cuda] ...") as list_cuda_devices().
CudaRoofline measure_cuda_roofline();

}  // namespace halftone
