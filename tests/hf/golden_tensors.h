#pragma once
// The tensors of a safetensors file under tests/golden.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

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
  // Any float type, as f32.
  std::vector<float> values(const std::string& name) const {
    const Tensor tensor = to_f32((*this)[name]);
    return {tensor.data<float>(), tensor.data<float>() + tensor.numel()};
  }
  bool contains(const std::string& name) const { return header_.tensors.contains(name); }
  // Names that end so, without the end.
  std::vector<std::string> names(std::string_view suffix) const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : header_.tensors) {
      if (name.ends_with(suffix)) names.push_back(name.substr(0, name.size() - suffix.size()));
    }
    return names;
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
