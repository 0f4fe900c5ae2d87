#pragma once
// The header of a safetensors file, checked in full before a tensor of it is touched.
//   file = length (u64, little-endian) | header: JSON of `length` bytes | data
//   header = {"__metadata__": {string: string}, NAME: {"dtype": D, "shape": [..], "data_offsets": [begin, end]}, ...}
// Offsets count from the beginning of the data. Tensors cover the data without gap or overlap.
// Source: github.com/huggingface/safetensors, README "Format".

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "tensor/tensor.h"

namespace halftone {

// The format's own limit on the header.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // in the data

  std::uint64_t nbytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
  std::uint64_t data_begin = 0;  // in the file
};

// Reads and checks the header of a whole file. Allocates in proportion to the header that is really there. `source`
// names the file. Throws Error("[source] tensor 'x' field 'y': expected ..., found ...").
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view source);

// All tensors of a file, as views of its memory map (copies where one begins at an odd byte). Throws Error.
std::map<std::string, Tensor> map_safetensors(const std::filesystem::path& path);

}  // namespace halftone
