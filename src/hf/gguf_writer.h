#pragma once
// Writes GGUF files (hf/gguf.h says what they are).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "hf/ggml_types.h"
#include "hf/tensor_writer.h"

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

// A tensor of the file to come; `shape`: outermost first, in weights.
struct GgufSlot {
  std::string name;
  GgmlType type = GgmlType::kF32;
  Shape shape;
};

// What the file begins with and where its tensors lie, as bytes: each slot is kU8 [bytes]. Throws Error for rows that
// are not whole blocks.
FileLayout lay_out_gguf(std::string file, const GgufValues& values, const std::vector<GgufSlot>& slots);

// The same storage as kU8 [bytes], for such a slot.
Tensor as_bytes(const Tensor& tensor);

}  // namespace halftone
