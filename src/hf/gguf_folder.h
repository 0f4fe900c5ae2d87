#pragma once
// A folder with model.gguf and mmproj.gguf, under the names and shapes that Hugging Face checkpoints have.

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "hf/ggml_types.h"

namespace halftone {

// Where one tensor lies in memory.
struct GgufEntry {
  DType dtype = DType::kF32;
  Shape shape;
  std::filesystem::path file;
  const std::byte* data = nullptr;
  std::shared_ptr<const void> owner;
  bool mapped = true;  // false: put together from parts, a copy

  std::int64_t nbytes() const { return count_elements(shape) * static_cast<std::int64_t>(dtype_size(dtype)); }
};

struct GgufFolder {
  std::map<std::string, GgufEntry> tensors;   // of block types: U8 [rows, bytes of a row]
  std::map<std::string, GgmlType> quantized;  // by module
};

// Maps model.gguf and, where it is there, mmproj.gguf. The vision tower's query, key and value matrices become one
// again, and so do the two halves of its patch embedding; an embedding table in blocks is decoded to F32. Throws Error
// naming file and tensor for a name that Qwen2-VL lacks, for a type that is not read, and for parts that do not fit.
GgufFolder map_gguf_folder(const std::filesystem::path& folder);

}  // namespace halftone
