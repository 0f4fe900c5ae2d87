#pragma once
// What this device can do at best, measured: the figures that every other one is compared with.

namespace halftone::cuda {

struct Roofline {
  double copy_bytes_per_s = 0;  // device to device, bytes read and written
  double read_bytes_per_s = 0;
  // Products of 8192 x 8192 x 8192 on random numbers by cuBLASLt; 0 where the device has no such product.
  double bf16_flops = 0, e4m3_flops = 0, int8_ops = 0;
};

// Takes about a second and 5 GB of the device's memory.
Roofline measure_roofline();

}  // namespace halftone::cuda
