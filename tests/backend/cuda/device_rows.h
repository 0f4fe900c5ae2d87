#pragma once
// What the tests of the CUDA ops share: fixtures that are skipped without a GPU, and rows in device memory among NaN.

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device_arena.h"
#include "backend/cuda/device_matrix.h"
#include "backend/cuda/launch.h"
#include "base/error.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"
#include "tests/ops/device_test.h"

namespace halftone::testing {

// Ops on a stream of the device, beside those of the CPU.
class DeviceOpsTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped()) stream_ = std::make_unique<cuda::DeviceStream>();
  }
  cuda::Launch launch() const { return stream_->launch(); }

  std::unique_ptr<cuda::DeviceStream> stream_;
  ThreadPool pool_{1};
  Stream cpu_{&pool_, Device::kCpu};
};

// The kernels' streams do not wait for the default one, which may return before its fills and copies are done.
inline void finish_filling() { cuda::check(cudaDeviceSynchronize(), "test"); }

// [rows, cols] on the device, `padding` elements of NaN bytes (0xff) after each row and 256 bytes of them on both sides.
class DeviceRows {
 public:
  DeviceRows(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t padding = 0)
      : matrix_{nullptr, dtype, rows, cols, cols + padding}, arena_("test", bytes() + 2 * kGuard) {
    memory_ = static_cast<char*>(arena_.allocate(bytes() + 2 * kGuard));
    cuda::check(cudaMemset(memory_, 0xff, bytes() + 2 * kGuard), "test");
    finish_filling();
    matrix_.data = memory_ + kGuard;
  }
  // `values` rounded to the dtype; kI8 takes integers, kF8E4M3 values that it holds.
  DeviceRows(DType dtype, const Tensor& values, std::int64_t padding = 0)
      : DeviceRows(dtype, values.dim(0), values.dim(1), padding) {
    const Tensor stored = dtype == DType::kI8       ? to_int8(values)
                          : dtype == DType::kF8E4M3 ? to_e4m3(values)
                                                    : from_f32(values, dtype);
    const std::size_t row = row_bytes();
    for (std::int64_t r = 0; r < matrix_.rows; ++r) {
      cuda::check(cudaMemcpy(memory_ + kGuard + r * stride_bytes(), static_cast<const char*>(stored.raw()) + r * row,
                             row, cudaMemcpyHostToDevice),
                  "test");
    }
    finish_filling();
  }

  const cuda::DeviceMatrix& matrix() const { return matrix_; }
  // Everything but the rows' own elements is NaN bytes still.
  bool padding_intact() const {
    const std::vector<std::uint8_t> all = read();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t at = i - kGuard;
      const bool inside = i >= kGuard && at < bytes() && at % stride_bytes() < row_bytes();
      if (!inside && all[i] != 0xff) return false;
    }
    return true;
  }
  // The elements as they are stored, row after row.
  std::vector<std::uint8_t> stored() const {
    const std::vector<std::uint8_t> all = read();
    std::vector<std::uint8_t> rows;
    for (std::int64_t r = 0; r < matrix_.rows; ++r) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(kGuard + r * stride_bytes());
      rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(row_bytes()));
    }
    return rows;
  }
  // [rows, cols] f32.
  Tensor values() const {
    const std::vector<std::uint8_t> bytes = stored();
    Tensor out(matrix_.dtype, {matrix_.rows, matrix_.cols});
    if (!bytes.empty()) std::memcpy(out.raw(), bytes.data(), bytes.size());
    if (matrix_.dtype != DType::kI8) return to_f32(out);
    Tensor floats(DType::kF32, out.shape());
    for (std::int64_t i = 0; i < out.numel(); ++i) floats.data<float>()[i] = out.data<std::int8_t>()[i];
    return floats;
  }

 private:
  static constexpr std::size_t kGuard = 256;

  static Tensor to_int8(const Tensor& values) {
    Tensor out(DType::kI8, values.shape());
    for (std::int64_t i = 0; i < out.numel(); ++i) {
      out.data<std::int8_t>()[i] = static_cast<std::int8_t>(values.data<float>()[i]);
    }
    return out;
  }
  static Tensor to_e4m3(const Tensor& values) {
    Tensor out(DType::kF8E4M3, values.shape());
    for (std::int64_t i = 0; i < out.numel(); ++i) {
      out.bits<std::uint8_t>()[i] = e4m3::encode(values.data<float>()[i]);
    }
    return out;
  }
  std::size_t row_bytes() const { return static_cast<std::size_t>(matrix_.cols) * dtype_size(matrix_.dtype); }
  std::size_t stride_bytes() const { return static_cast<std::size_t>(matrix_.stride) * dtype_size(matrix_.dtype); }
  std::size_t bytes() const { return static_cast<std::size_t>(matrix_.rows) * stride_bytes(); }
  std::vector<std::uint8_t> read() const {
    std::vector<std::uint8_t> all(bytes() + 2 * kGuard);
    cuda::check(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost), "test");
    return all;
  }

  cuda::DeviceMatrix matrix_;
  cuda::DeviceArena arena_;
  char* memory_ = nullptr;
};

}  // namespace halftone::testing
