#include <cstring>
#include <vector>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device/read_all.h"
#include "backend/cuda/device_arena.h"
#include "backend/cuda/event_timer.h"
#include "base/error.h"
#include "base/random.h"
#include "formats/bf16.h"
#include "ops/cuda_devices.h"

namespace halftone::cuda {
namespace {

constexpr std::size_t kBytes = std::size_t{2} << 30;  // a multiple of any cache
constexpr int kWarmUp = 3, kRepeats = 15;
constexpr std::int64_t kLength = 8192;

// `bytes` of one dtype's finite random numbers; sums of 8192 products stay finite, too.
void fill_random(void* target, std::size_t bytes, DType dtype) {
  Random random(1);
  std::vector<std::uint8_t> block(std::size_t{8} << 20);
  for (std::size_t i = 0; i + 1 < block.size(); i += 2) {
    auto code = static_cast<std::uint16_t>(random.next());
    if (dtype == DType::kBF16) code = bf16::encode(static_cast<float>(2 * random.uniform() - 1));
    if (dtype == DType::kF8E4M3) code &= 0xbfbf;  // below 2: never NaN
    std::memcpy(block.data() + i, &code, sizeof(code));
  }
  for (std::size_t at = 0; at < bytes; at += block.size()) {
    check(cudaMemcpy(static_cast<char*>(target) + at, block.data(), std::min(block.size(), bytes - at),
                     cudaMemcpyHostToDevice),
          "cuda roofline");
  }
}

double product_rate(DType dtype, DType result, char* memory, const DeviceStream& stream) {
  const auto operand = static_cast<std::size_t>(kLength * kLength) * dtype_size(dtype);
  const auto output = static_cast<std::size_t>(kLength * kLength) * dtype_size(result);
  constexpr std::size_t kWorkspace = std::size_t{64} << 20;
  fill_random(memory, 2 * operand, dtype);
  const DeviceMatrix x{nullptr, dtype, kLength, kLength, kLength}, y{nullptr, result, kLength, kLength, kLength};
  const BlasProduct product(x, x, y, kWorkspace);
  const double ms = median_milliseconds(stream, kWarmUp, kRepeats, [&] {
    product.run(kLength, {memory, memory + operand, memory + 2 * operand, memory + 2 * operand + output},
                stream.launch());
  });
  return 2.0 * static_cast<double>(kLength * kLength * kLength) / (ms * 1e-3);
}

// 0 where cuBLASLt has no such product for the device.
double product_rate_or_zero(DType dtype, DType result, char* memory, const DeviceStream& stream) {
  try {
    return product_rate(dtype, result, memory, stream);
  } catch (const Error&) {
    return 0;
  }
}

CudaRoofline measure() {
  const DeviceStream stream;
  DeviceArena arena("roofline", 2 * kBytes + DeviceArena::kAlignment);
  auto* memory = static_cast<char*>(arena.allocate(2 * kBytes));
  auto* word = arena.allocate<std::uint32_t>(1);
  fill_random(memory, kBytes, DType::kI8);
  CudaRoofline roofline;
  const double copy_ms = median_milliseconds(stream, kWarmUp, kRepeats, [&] {
    check(cudaMemcpyAsync(memory + kBytes, memory, kBytes, cudaMemcpyDeviceToDevice, stream.launch().stream),
          "cuda roofline");
  });
  roofline.copy_bytes = 2 * static_cast<double>(kBytes) / (copy_ms * 1e-3);
  const double read_ms =
      median_milliseconds(stream, kWarmUp, kRepeats, [&] { start_read_all(memory, kBytes, word, stream.launch()); });
  roofline.read_bytes = static_cast<double>(kBytes) / (read_ms * 1e-3);
  roofline.bf16_flops = product_rate_or_zero(DType::kBF16, DType::kBF16, memory, stream);
  roofline.e4m3_flops = product_rate_or_zero(DType::kF8E4M3, DType::kBF16, memory, stream);
  roofline.int8_ops = product_rate_or_zero(DType::kI8, DType::kI32, memory, stream);
  return roofline;
}

}  // namespace
}  // namespace halftone::cuda

namespace halftone {

CudaRoofline measure_cuda_roofline() {
  list_cuda_devices();
  return cuda::measure();
}

}  // namespace halftone
