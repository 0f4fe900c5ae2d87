#include "hf/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

namespace halftone {
namespace {

static_assert(std::endian::native == std::endian::little);

enum ValueType : std::uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };
constexpr std::array<std::uint64_t, 13> kValueBytes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};  // 0: of no fixed size

constexpr std::uint64_t kMaxName = 65535, kMaxDimensions = 4, kMaxAlignment = 1 << 20;
constexpr std::uint64_t kSmallestString = 8, kSmallestValue = 8 + 4 + 1, kSmallestTensor = 8 + 4 + 4 + 8;

class Parser {
 public:
  Parser(std::span<const std::byte> file, std::string_view source) : file_(file), source_(source) {}

  GgufHeader parse() {
    require(remaining() >= 4 && std::memcmp(file_.data(), "GGUF", 4) == 0, source_,
            "expected a GGUF file, found other bytes at its beginning");
    at_ = 4;
    const auto version = take<std::uint32_t>("the version");
    require(version == 2 || version == 3, source_, "expected GGUF version 2 or 3, found {}", version);
    const auto tensors = take<std::uint64_t>("the count of tensors");
    const auto values = take<std::uint64_t>("the count of values");
    check_count(values, kSmallestValue, "values");
    check_count(tensors, kSmallestTensor, "tensors");
    for (std::uint64_t i = 0; i < values; ++i) read_value();
    for (std::uint64_t i = 0; i < tensors; ++i) read_tensor();
    place_data();
    return std::move(header_);
  }

 private:
  std::uint64_t remaining() const { return file_.size() - at_; }

  void check_count(std::uint64_t count, std::uint64_t smallest, std::string_view what) const {
    require(count <= remaining() / smallest, source_,
            "expected at most {} {} in the {} bytes left, found a count of {}", remaining() / smallest, what,
            remaining(), count);
  }

  template <typename T>
  T take(std::string_view what) {
    require(remaining() >= sizeof(T), source_, "expected {} at byte {}, found the end of the file", what, at_);
    T value{};
    std::memcpy(&value, file_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  std::string_view take_string(std::string_view what) {
    const auto length = take<std::uint64_t>(what);
    require(length <= remaining(), source_, "{}: expected at most {} bytes (the end of the file), found a length of {}",
            what, remaining(), length);
    const std::string_view text(reinterpret_cast<const char*>(file_.data() + at_), length);
    at_ += length;
    return text;
  }

  std::string take_name(std::string_view what) {
    const std::string_view name = take_string(what);
    require(!name.empty() && name.size() <= kMaxName, source_, "{}: expected 1 to {} bytes, found {}", what, kMaxName,
            name.size());
    const auto control = std::find_if(name.begin(), name.end(), [](char c) { return c >= 0 && c < ' '; });
    require(control == name.end(), source_, "{}: expected text, found a control character at byte {}", what,
            at_ - static_cast<std::uint64_t>(name.end() - control));
    return std::string(name);
  }

  GgufValue take_scalar(std::uint32_t type, const std::string& name) {
    switch (type) {
      case kU8:
        return std::uint64_t{take<std::uint8_t>(name)};
      case kI8:
        return std::int64_t{take<std::int8_t>(name)};
      case kU16:
        return std::uint64_t{take<std::uint16_t>(name)};
      case kI16:
        return std::int64_t{take<std::int16_t>(name)};
      case kU32:
        return std::uint64_t{take<std::uint32_t>(name)};
      case kI32:
        return std::int64_t{take<std::int32_t>(name)};
      case kF32:
        return double{take<float>(name)};
      case kBool:
        return take<std::uint8_t>(name) != 0;
      case kString:
        return std::string(take_string(name));
      case kU64:
        return take<std::uint64_t>(name);
      case kI64:
        return take<std::int64_t>(name);
      case kF64:
        return take<double>(name);
      default:
        fail(source_, "value '{}': expected a type from 0 to 12, found {}", name, type);
    }
  }

  void skip_array(const std::string& name) {
    const auto type = take<std::uint32_t>(name);
    const auto count = take<std::uint64_t>(name);
    require(type < kValueBytes.size() && type != kArray, source_,
            "value '{}': expected an array of scalars or strings, found type {}", name, type);
    const std::uint64_t bytes = type == kString ? kSmallestString : kValueBytes[type];
    require(count <= remaining() / bytes, source_,
            "value '{}': expected at most {} elements in the {} bytes left, found a count of {}", name,
            remaining() / bytes, remaining(), count);
    if (type == kString) {
      for (std::uint64_t i = 0; i < count; ++i) take_string(name);
    } else {
      at_ += count * bytes;
    }
  }

  void read_value() {
    const std::string name = take_name("the name of a value");
    const auto type = take<std::uint32_t>(name);
    if (type == kArray) return skip_array(name);
    const bool fresh = header_.values.emplace(name, take_scalar(type, name)).second;
    require(fresh, source_, "value '{}': expected once, found twice", name);
  }

  // Sizes are compared by division: lengths may be anything.
  void read_tensor() {
    const std::string name = take_name("the name of a tensor");
    const auto dimensions = take<std::uint32_t>(name);
    require(dimensions >= 1 && dimensions <= kMaxDimensions, source_,
            "tensor '{}': expected 1 to {} dimensions, found {}", name, kMaxDimensions, dimensions);
    GgufTensor tensor;
    std::uint64_t elements = 1;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto length = take<std::uint64_t>(name);
      require(length >= 1 && length <= file_.size() * 8 / elements, source_,
              "tensor '{}': expected a shape that fits into the file, found a length of {}", name, length);
      elements *= length;
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(length));
    }
    const auto number = take<std::uint32_t>(name);
    const GgmlTypeInfo* info = find_ggml_type(number);
    require(info != nullptr, source_,
            "tensor '{}': expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or a K type, found type number {}",
            name, number);
    require(tensor.shape.back() % info->weights == 0, source_,
            "tensor '{}': expected rows in whole blocks of {} for {}, found shape {}", name, info->weights, info->name,
            to_string(tensor.shape));
    tensor.type = info->type;
    tensor.nbytes = elements / static_cast<std::uint64_t>(info->weights) * static_cast<std::uint64_t>(info->bytes);
    tensor.begin = take<std::uint64_t>(name);  // made absolute when the data's beginning is known
    require(header_.tensors.emplace(name, std::move(tensor)).second, source_, "tensor '{}': expected once, found twice",
            name);
  }

  std::uint64_t alignment() const {
    const auto it = header_.values.find("general.alignment");
    if (it == header_.values.end()) return kGgufAlignment;
    const auto* value = std::get_if<std::uint64_t>(&it->second);
    require(value != nullptr && std::has_single_bit(*value) && *value >= 8 && *value <= kMaxAlignment, source_,
            "value 'general.alignment': expected a power of two from 8 to {}, found another", kMaxAlignment);
    return *value;
  }

  void place_data() {
    const std::uint64_t step = alignment();
    header_.data_begin = (at_ + step - 1) / step * step;
    require(header_.tensors.empty() || header_.data_begin <= file_.size(), source_,
            "expected data from byte {}, found a file of {} bytes", header_.data_begin, file_.size());
    std::vector<std::pair<std::uint64_t, const std::pair<const std::string, GgufTensor>*>> order;
    for (auto& entry : header_.tensors) {
      GgufTensor& tensor = entry.second;
      const std::uint64_t data = file_.size() - header_.data_begin;
      require(tensor.begin % step == 0, source_, "tensor '{}': expected an offset that is a multiple of {}, found {}",
              entry.first, step, tensor.begin);
      require(tensor.begin <= data && tensor.nbytes <= data - tensor.begin, source_,
              "tensor '{}': expected {} bytes at offset {} of {} bytes of data", entry.first, tensor.nbytes,
              tensor.begin, data);
      tensor.begin += header_.data_begin;
      order.emplace_back(tensor.begin, &entry);
    }
    std::sort(order.begin(), order.end());
    if (!order.empty() && order[0].first != header_.data_begin) {
      fail(source_, "tensor '{}': expected the first one at offset 0, found {}", order[0].second->first,
           order[0].first - header_.data_begin);
    }
    // as ggml demands it: a gap means that a type or a shape is not the one that was written
    for (std::size_t i = 1; i < order.size(); ++i) {
      const auto& [name, before] = *order[i - 1].second;
      const std::uint64_t next = (before.begin + before.nbytes + step - 1) / step * step;
      require(
          next == order[i].first, source_,
          "tensor '{}' of {} {}: expected its {} bytes to end where tensor '{}' begins, at offset {}, found offset {}",
          name, ggml_type_info(before.type).name, to_string(before.shape), before.nbytes, order[i].second->first,
          next - header_.data_begin, order[i].first - header_.data_begin);
    }
  }

  std::span<const std::byte> file_;
  std::string_view source_;
  std::uint64_t at_ = 0;
  GgufHeader header_;
};

}  // namespace

GgufHeader parse_gguf_header(std::span<const std::byte> file, std::string_view source) {
  return Parser(file, source).parse();
}

}  // namespace halftone
