#include "hf/gguf_writer.h"

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

std::uint64_t bytes_of(const GgufSlot& tensor) {
  const GgmlTypeInfo& info = ggml_type_info(tensor.type);
  require(!tensor.shape.empty() && tensor.shape.back() % info.weights == 0, "write gguf",
          "tensor '{}': expected rows in whole blocks of {} for {}, got shape {}", tensor.name, info.weights, info.name,
          to_string(tensor.shape));
  return static_cast<std::uint64_t>(count_elements(tensor.shape) / info.weights * info.bytes);
}

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

std::string header_of(const GgufValues& values, const std::vector<GgufSlot>& tensors) {
  std::string bytes = "GGUF";
  append(bytes, kVersion);
  append(bytes, std::uint64_t{tensors.size()});
  append(bytes, values.count());
  bytes += values.bytes();
  std::uint64_t offset = 0;
  for (const GgufSlot& tensor : tensors) {
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

FileLayout lay_out_gguf(std::string file, const GgufValues& values, const std::vector<GgufSlot>& slots) {
  FileLayout layout{std::move(file), header_of(values, slots), {}, 0};
  layout.size = static_cast<std::int64_t>(layout.header.size());
  for (const GgufSlot& slot : slots) {
    const std::uint64_t bytes = bytes_of(slot);
    layout.places.push_back({{slot.name, DType::kU8, {static_cast<std::int64_t>(bytes)}}, layout.size});
    layout.size += static_cast<std::int64_t>(padded(bytes));
  }
  return layout;
}

Tensor as_bytes(const Tensor& tensor) {
  return Tensor::borrow(DType::kU8, {tensor.nbytes()}, tensor.raw(), std::make_shared<Tensor>(tensor));
}

}  // namespace halftone
