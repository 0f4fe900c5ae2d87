#pragma once
// Inputs of the tests of decoder and vision ops: numbers that bf16 holds, integers and a paged cache on the device.

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cuda/decode_ops.h"
#include "formats/kv_int8.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/ops/linear_cases.h"

namespace halftone::testing {

// The tests of a decoder's ops stand in several files.
class CudaDecodeOps : public DeviceOpsTest {};

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

// What a cache holds, and what its codes are scaled with: [kv_heads] each.
struct CacheScales {
  cuda::KvElement element = cuda::KvElement::kBF16;
  std::vector<float> k = {}, v = {};
};

class Cache {
 public:
  Cache(const CacheCase& shape, std::int64_t pages_per_sequence, const CacheScales& scales = {})
      : pages_(page_numbers(pages_per_sequence * static_cast<std::int64_t>(shape.lengths.size()))),
        k_(dtype(scales), rows_of(shape, pages_per_sequence), shape.head_dim),
        v_(dtype(scales), rows_of(shape, pages_per_sequence), shape.head_dim),
        k_scales_(DType::kF32, scale_row(scales.k)),
        v_scales_(DType::kF32, scale_row(scales.v)),
        kv_{static_cast<std::uint16_t*>(k_.matrix().data),
            static_cast<std::uint16_t*>(v_.matrix().data),
            pages_.data(),
            static_cast<int>(pages_per_sequence),
            static_cast<int>(shape.kv_heads),
            static_cast<int>(shape.head_dim)} {
    kv_.element = scales.element;
    if (!kv_.holds_codes()) return;
    kv_.k_scales = static_cast<const float*>(k_scales_.matrix().data);
    kv_.v_scales = static_cast<const float*>(v_scales_.matrix().data);
    if (kv_.element != cuda::KvElement::kInt8) return;
    // other bytes than the rows' own are a code of INT8
    for (const DeviceRows* rows : {&k_, &v_}) {
      const auto bytes = static_cast<std::size_t>(rows->matrix().rows * rows->matrix().cols);
      cuda::check(cudaMemset(rows->matrix().data, static_cast<std::uint8_t>(kv_int8::kNan), bytes), "test");
    }
    finish_filling();
  }
  const cuda::PagedKv& kv() const { return kv_; }
  // [rows, head_dim]: page after page, in each head after head, in each slot after slot.
  Tensor keys() const { return k_.values(); }
  Tensor values() const { return v_.values(); }

 private:
  static DType dtype(const CacheScales& scales) {
    return scales.element == cuda::KvElement::kBF16   ? DType::kBF16
           : scales.element == cuda::KvElement::kE4M3 ? DType::kF8E4M3
                                                      : DType::kI8;
  }
  static Tensor scale_row(const std::vector<float>& scales) {
    return Tensor::from(scales, {1, static_cast<std::int64_t>(scales.size())});
  }
  static std::int64_t rows_of(const CacheCase& shape, std::int64_t pages) {
    return pages * static_cast<std::int64_t>(shape.lengths.size()) * shape.kv_heads * cuda::kPageTokens;
  }
  static std::vector<std::int32_t> page_numbers(std::int64_t count) {
    std::vector<std::int32_t> numbers;
    for (std::int64_t i = 0; i < count; ++i) numbers.push_back(static_cast<std::int32_t>(count - 1 - i));
    return numbers;
  }
  DeviceIntegers pages_;
  DeviceRows k_, v_, k_scales_, v_scales_;
  cuda::PagedKv kv_;
};

}  // namespace halftone::testing
