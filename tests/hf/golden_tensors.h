#pragma once
// The tensors of a safetensors file under tests/golden.

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/file.h"
#include "hf/safetensors.h"

namespace halftone::testing_support {

class GoldenTensors {
 public:
  explicit GoldenTensors(const std::string& name)
      : file_(std::string(HALFTONE_SOURCE_DIR "/tests/golden/") + name),
        header_(parse_safetensors_header(file_.bytes(), name)) {}

  Tensor operator[](const std::string& name) const {
    const SafetensorsEntry& entry = header_.tensors.at(name);
    Tensor copy(entry.dtype, entry.shape);
    std::memcpy(copy.raw(), file_.bytes().data() + header_.data_begin + entry.begin, entry.nbytes());
    return copy;
  }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

inline void expect_same_bytes(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_TRUE(got.defined()) << what;
  ASSERT_EQ(got.nbytes(), want.nbytes()) << what;
  const auto* a = static_cast<const std::uint8_t*>(got.raw());
  const auto* b = static_cast<const std::uint8_t*>(want.raw());
  for (std::int64_t i = 0; i < want.nbytes(); ++i) ASSERT_EQ(a[i], b[i]) << what << " at byte " << i;
}

}  // namespace halftone::testing_support
