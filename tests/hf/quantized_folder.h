#pragma once
// A checkpoint folder made of a few tensors and a configuration, for tests of its readers.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "base/file.h"
#include "hf/checkpoint.h"
#include "hf/safetensors_writer.h"

namespace halftone::testing_support {

// A tensor of `dtype` whose floats are all `value`; of other types whose bytes are all that.
inline Tensor filled(DType dtype, const Shape& shape, float value = 1.0f) {
  if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) {
    return from_f32(Tensor::from(std::vector<float>(static_cast<std::size_t>(count_elements(shape)), value), shape),
                    dtype);
  }
  Tensor tensor(dtype, shape);
  std::memset(tensor.raw(), static_cast<int>(value), static_cast<std::size_t>(tensor.nbytes()));
  return tensor;
}

inline Tensor integers(const std::vector<std::int64_t>& values) {
  Tensor tensor(DType::kI64, {static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.data<std::int64_t>());
  return tensor;
}

class QuantizedFolder : public testing::Test {
 protected:
  QuantizedFolder()
      : root_(std::filesystem::path(testing::TempDir()) / ("halftone_quantized_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(root_);
  }
  ~QuantizedFolder() override { std::filesystem::remove_all(root_); }

  // Writes what tensors_, config_ and modelopt_ hold, and opens it.
  Checkpoint open() {
    std::vector<TensorToWrite> list;
    for (const auto& [name, tensor] : tensors_) list.push_back(tensor_to_write(name, tensor));
    std::filesystem::remove(root_ / "model.safetensors");
    write_safetensors(root_, list);
    write_file_atomically(root_ / "config.json", config_.dump());
    std::filesystem::remove(root_ / "hf_quant_config.json");
    if (!modelopt_.is_null()) write_file_atomically(root_ / "hf_quant_config.json", modelopt_.dump());
    return Checkpoint::open(root_);
  }

  // The message of the Error that reading gives.
  template <typename Read>
  std::string error_of(Read read) {
    try {
      read(open());
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  std::filesystem::path root_;
  std::map<std::string, Tensor> tensors_;
  OrderedJson config_ = OrderedJson::object(), modelopt_;
};

}  // namespace halftone::testing_support
