#include "hf/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <vector>

#include "base/file.h"
#include "hf/safetensors_parser.h"

namespace halftone {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are mapped as they lie in the file");

// Length of the header in bytes.
std::uint64_t header_length(std::span<const std::byte> file, std::string_view source) {
  require(file.size() >= 8, source, "expected 8 bytes of header length, found a file of {} bytes", file.size());
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  require(length <= kMaxSafetensorsHeader, source, "header length: expected at most {} bytes, found {}",
          kMaxSafetensorsHeader, length);
  require(length <= file.size() - 8, source, "header length: expected at most the {} bytes that follow, found {}",
          file.size() - 8, length);
  return length;
}

void check_size(const std::string& name, const SafetensorsEntry& entry, std::uint64_t data_size,
                std::string_view source) {
  require(entry.begin <= entry.end, source, "tensor '{}' field 'data_offsets': expected begin <= end, found [{}, {}]",
          name, entry.begin, entry.end);
  require(entry.end <= data_size, source,
          "tensor '{}' field 'data_offsets': expected an end within the {} bytes of data, found {} (a truncated file?)",
          name, data_size, entry.end);
  // count_elements() bounds the product by 2^62, elements have at most 8 bytes: the data is compared by division
  std::uint64_t count = 0;
  try {
    count = static_cast<std::uint64_t>(count_elements(entry.shape));
  } catch (const Error&) {
    fail(source, "tensor '{}' field 'shape': expected at most 2^62 elements, found {}", name, to_string(entry.shape));
  }
  const std::uint64_t size = dtype_size(entry.dtype);
  require(entry.nbytes() % size == 0 && entry.nbytes() / size == count, source,
          "tensor '{}' field 'data_offsets': expected the {} elements of {} of shape {}, found {} bytes", name, count,
          dtype_name(entry.dtype), to_string(entry.shape), entry.nbytes());
}

// Tensors in the order of their data must follow one another from the first byte to the last.
void check_coverage(const SafetensorsHeader& header, std::uint64_t data_size, std::string_view source) {
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
  order.reserve(header.tensors.size());
  for (const auto& tensor : header.tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t end = 0;
  for (const auto* tensor : order) {
    const std::uint64_t begin = tensor->second.begin;
    require(begin >= end, source,
            "tensor '{}' field 'data_offsets': overlaps another: expected a begin of {}, found {}", tensor->first, end,
            begin);
    require(begin == end, source, "tensor '{}' field 'data_offsets': leaves a hole: expected a begin of {}, found {}",
            tensor->first, end, begin);
    end = tensor->second.end;
  }
  require(end == data_size, source, "expected tensors to cover all {} bytes of data, found an end at {}", data_size,
          end);
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view source) {
  const std::uint64_t length = header_length(file, source);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  SafetensorsHeader header = parse_safetensors_json(text, source);
  header.data_begin = 8 + length;
  const std::uint64_t data_size = file.size() - header.data_begin;
  for (const auto& [name, entry] : header.tensors) check_size(name, entry, data_size, source);
  check_coverage(header, data_size, source);
  return header;
}

std::map<std::string, Tensor> map_safetensors(const std::filesystem::path& path) {
  const MappedFile file(path);
  const SafetensorsHeader header = parse_safetensors_header(file.bytes(), path.string());
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, entry] : header.tensors) {
    const std::byte* data = file.bytes().data() + header.data_begin + entry.begin;
    const Tensor view = Tensor::borrow(entry.dtype, entry.shape, data, file.owner());
    const bool aligned = reinterpret_cast<std::uintptr_t>(data) % dtype_size(entry.dtype) == 0;
    tensors[name] = aligned ? view : view.clone();
  }
  return tensors;
}

}  // namespace halftone
