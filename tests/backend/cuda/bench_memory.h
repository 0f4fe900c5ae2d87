#pragma once
// Device memory for benchmarks.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_error.h"
#include "base/random.h"
#include "formats/bf16.h"

namespace halftone::testing {

// Fills device memory with finite random codes of every format: bf16 numbers below 1, whose bytes are E4M3 below 2.
inline void fill_with_codes(void* target, std::size_t bytes) {
  static const std::vector<std::uint16_t> block = [] {
    Random random(1);
    std::vector<std::uint16_t> codes(std::size_t{4} << 20);
    for (std::uint16_t& code : codes) {
      code = static_cast<std::uint16_t>(bf16::encode(static_cast<float>(random.uniform())) & 0xbfbf);
    }
    return codes;
  }();
  auto* memory = static_cast<char*>(target);
  std::size_t filled = std::min(bytes, block.size() * sizeof(std::uint16_t));
  cuda::check(cudaMemcpy(memory, block.data(), filled, cudaMemcpyHostToDevice), "bench");
  while (filled < bytes) {
    const std::size_t more = std::min(filled, bytes - filled);
    cuda::check(cudaMemcpy(memory + filled, memory, more, cudaMemcpyDeviceToDevice), "bench");
    filled += more;
  }
  cuda::check(cudaDeviceSynchronize(), "bench");
}

}  // namespace halftone::testing
