#pragma once
// GGUF, the file format of llama.cpp. Version 3 (2 is read as well), little-endian:
//   "GGUF", version u32, count of tensors u64, count of values u64,
//   values: name, type u32, content (a string is a u64 length and bytes; an array is type u32, count u64, elements),
//   tensors: name, count of dimensions u32, lengths u64 with the innermost first, type u32, offset u64 into the data,
//   padding to general.alignment (32 unless said), the data.
// Source: github.com/ggml-org/ggml, docs/gguf.md.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "hf/ggml_types.h"
#include "tensor/tensor.h"

namespace halftone {

inline constexpr std::uint64_t kGgufAlignment = 32;

struct GgufTensor {
  GgmlType type = GgmlType::kF32;
  Shape shape;              // outermost first, as everywhere else
  std::uint64_t begin = 0;  // in the file
  std::uint64_t nbytes = 0;
};

// A value of the header; arrays are checked but not kept.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string>;

struct GgufHeader {
  std::map<std::string, GgufValue> values;
  std::map<std::string, GgufTensor> tensors;
  std::uint64_t data_begin = 0;
};

// Reads and checks the header of a whole file: every count, length and offset against the bytes that are there, before
// anything is allocated for it; names once; rows in whole blocks; each tensor where the one before it ends.
// `source` names the file. Throws Error("[source] tensor 'x': expected ..., found ...").
GgufHeader parse_gguf_header(std::span<const std::byte> file, std::string_view source);

}  // namespace halftone
