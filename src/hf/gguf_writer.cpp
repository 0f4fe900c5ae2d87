#include "hf/gguf_writer.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "hf/gguf.h"

namespace halftone {
namespace {

// Numbers of the format's value types.
constexpr std::uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBoolean = 7, kText = 8, kList = 9;
constexpr std::uint32_t kVersion = 3;

template <typename T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_string(std::string& bytes, std::string_view text) {
  append(bytes, std::uint64_t{text.size()});
  bytes += text;
}

void pad(std::string& bytes) {
  bytes.resize((bytes.size() + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment, '\0');
}

std::uint64_t bytes_of(const GgufTensorToWrite& tensor) {
  const GgmlTypeInfo& info = ggml_type_info(tensor.type);
  require(!tensor.shape.empty() && tensor.shape.back() % info.weights == 0, "write gguf",
          "tensor '{}': expected rows in whole blocks of {} for {}, got shape {}", tensor.name, info.weights, info.name,
          to_string(tensor.shape));
  return static_cast<std::uint64_t>(count_elements(tensor.shape) / info.weights * info.bytes);
}

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

std::string header_of(const GgufValues& values, const std::vector<GgufTensorToWrite>& tensors) {
  std::string bytes = "GGUF";
  append(bytes, kVersion);
  append(bytes, std::uint64_t{tensors.size()});
  append(bytes, values.count());
  bytes += values.bytes();
  std::uint64_t offset = 0;
  for (const GgufTensorToWrite& tensor : tensors) {
    append_string(bytes, tensor.name);
    append(bytes, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it)
      append(bytes, static_cast<std::uint64_t>(*it));
    append(bytes, static_cast<std::uint32_t>(tensor.type));
    append(bytes, offset);
    offset += padded(bytes_of(tensor));
  }
  pad(bytes);
  return bytes;
}

}  // namespace

void GgufValues::begin(std::string_view name, std::uint32_t type) {
  append_string(bytes_, name);
  append(bytes_, type);
  ++count_;
}

void GgufValues::begin_array(std::string_view name, std::uint32_t type, std::size_t count) {
  begin(name, kList);
  append(bytes_, type);
  append(bytes_, std::uint64_t{count});
}

void GgufValues::add(std::string_view name, std::uint32_t value) {
  begin(name, kUint32);
  append(bytes_, value);
}

void GgufValues::add(std::string_view name, float value) {
  begin(name, kFloat32);
  append(bytes_, value);
}

void GgufValues::add(std::string_view name, bool value) {
  begin(name, kBoolean);
  append(bytes_, static_cast<std::uint8_t>(value));
}

void GgufValues::add(std::string_view name, std::string_view value) {
  begin(name, kText);
  append_string(bytes_, value);
}

void GgufValues::add(std::string_view name, const std::vector<std::int32_t>& values) {
  begin_array(name, kInt32, values.size());
  for (const std::int32_t value : values) append(bytes_, value);
}

void GgufValues::add(std::string_view name, const std::vector<float>& values) {
  begin_array(name, kFloat32, values.size());
  for (const float value : values) append(bytes_, value);
}

void GgufValues::add(std::string_view name, const std::vector<std::string>& values) {
  begin_array(name, kText, values.size());
  for (const std::string& value : values) append_string(bytes_, value);
}

void write_gguf(const std::filesystem::path& path, const GgufValues& values,
                const std::vector<GgufTensorToWrite>& tensors, const Progress& progress) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  const std::string header = header_of(values, tensors);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  std::int64_t done = 0, total = 0;
  for (const GgufTensorToWrite& tensor : tensors) total += static_cast<std::int64_t>(bytes_of(tensor));
  for (const GgufTensorToWrite& wanted : tensors) {
    const Tensor tensor = wanted.load();
    const std::uint64_t bytes = bytes_of(wanted);
    require(tensor.defined() && static_cast<std::uint64_t>(tensor.nbytes()) == bytes, "write gguf",
            "tensor '{}': expected {} bytes, got {}", wanted.name, bytes, tensor.defined() ? tensor.nbytes() : 0);
    out.write(static_cast<const char*>(tensor.raw()), tensor.nbytes());
    const std::string padding(padded(bytes) - bytes, '\0');
    out.write(padding.data(), static_cast<std::streamsize>(padding.size()));
    if (!out.good()) break;
    done += tensor.nbytes();
    if (progress) progress("writing tensors", done, total);
  }
  out.close();
  require(out.good(), "write gguf", "{}: cannot write: {}", path.string(), std::strerror(errno));
}

}  // namespace halftone
