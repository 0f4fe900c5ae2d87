#pragma once
// Inputs of the tests of decoder and vision ops: numbers that bf16 holds, integers and a paged cache on the device.

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cuda/decode_ops.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/ops/linear_cases.h"

namespace halftone::testing {

inline Tensor bf16_input(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  return to_f32(from_f32(random_input(rows, cols, seed), DType::kBF16));
}

// One step of bf16 at x.
inline float bf16_step(float x) { return std::max(std::fabs(x) * 0x1p-7f, 0x1p-133f); }

// Integers on the device.
class DeviceIntegers {
 public:
  explicit DeviceIntegers(const std::vector<std::int32_t>& values) : arena_("test", values.size() * 4 + 4) {
    data_ = arena_.allocate<std::int32_t>(values.size() + 1);
    cuda::check(cudaMemcpy(data_, values.data(), values.size() * 4, cudaMemcpyHostToDevice), "test");
    finish_filling();
  }
  std::int32_t* data() const { return data_; }
  std::vector<std::int32_t> read(std::size_t count) const {
    std::vector<std::int32_t> values(count);
    cuda::check(cudaMemcpy(values.data(), data_, count * 4, cudaMemcpyDeviceToHost), "test");
    return values;
  }

 private:
  cuda::DeviceArena arena_;
  std::int32_t* data_ = nullptr;
};

// Sequences in pages out of order, among NaN.
struct CacheCase {
  std::int64_t heads, kv_heads, head_dim;
  std::vector<std::int32_t> lengths;
};

class Cache {
 public:
  Cache(const CacheCase& shape, std::int64_t pages_per_sequence)
      : pages_(page_numbers(pages_per_sequence * static_cast<std::int64_t>(shape.lengths.size()))),
        k_(DType::kBF16, pages_count(shape, pages_per_sequence) * shape.kv_heads * cuda::kPageTokens, shape.head_dim),
        v_(DType::kBF16, pages_count(shape, pages_per_sequence) * shape.kv_heads * cuda::kPageTokens, shape.head_dim),
        kv_{static_cast<std::uint16_t*>(k_.matrix().data),
            static_cast<std::uint16_t*>(v_.matrix().data),
            pages_.data(),
            static_cast<int>(pages_per_sequence),
            static_cast<int>(shape.kv_heads),
            static_cast<int>(shape.head_dim)} {}
  const cuda::PagedKv& kv() const { return kv_; }

 private:
  static std::int64_t pages_count(const CacheCase& shape, std::int64_t pages) {
    return pages * static_cast<std::int64_t>(shape.lengths.size());
  }
  static std::vector<std::int32_t> page_numbers(std::int64_t count) {
    std::vector<std::int32_t> numbers;
    for (std::int64_t i = 0; i < count; ++i) numbers.push_back(static_cast<std::int32_t>(count - 1 - i));
    return numbers;
  }
  DeviceIntegers pages_;
  DeviceRows k_, v_;
  cuda::PagedKv kv_;
};

}  // namespace halftone::testing
