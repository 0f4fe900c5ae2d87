#pragma once
// Writes GGUF files (hf/gguf.h says what they are), one tensor in memory at a time.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "hf/ggml_types.h"

namespace halftone {

// The values of a header, in the order given.
class GgufValues {
 public:
  void add(std::string_view name, std::uint32_t value);
  void add(std::string_view name, float value);
  void add(std::string_view name, bool value);
  void add(std::string_view name, std::string_view value);
  void add(std::string_view name, const char* value) { add(name, std::string_view(value)); }
  void add(std::string_view name, const std::vector<std::int32_t>& values);
  void add(std::string_view name, const std::vector<float>& values);
  void add(std::string_view name, const std::vector<std::string>& values);

  std::uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(std::string_view name, std::uint32_t type);
  void begin_array(std::string_view name, std::uint32_t type, std::size_t count);

  std::string bytes_;
  std::uint64_t count_ = 0;
};

struct GgufTensorToWrite {
  std::string name;
  GgmlType type = GgmlType::kF32;
  Shape shape;                   // outermost first, in weights
  std::function<Tensor()> load;  // called once; must give the bytes of this type and shape
};

// Throws Error for rows that are not whole blocks, for other bytes than announced, and when the file cannot be written.
void write_gguf(const std::filesystem::path& path, const GgufValues& values,
                const std::vector<GgufTensorToWrite>& tensors, const Progress& progress = {});

}  // namespace halftone
