#include "hf/safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "base/json.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

std::int64_t bytes_of(const TensorToWrite& tensor) {
  return count_elements(tensor.shape) * static_cast<std::int64_t>(dtype_size(tensor.dtype));
}

using Shard = std::vector<const TensorToWrite*>;

std::vector<Shard> split(const std::vector<TensorToWrite>& tensors, std::int64_t max_shard_bytes) {
  require(max_shard_bytes > 0, "write safetensors", "expected a shard size above 0, got {}", max_shard_bytes);
  std::vector<Shard> shards(1);
  std::int64_t size = 0;
  std::set<std::string_view> names;
  for (const TensorToWrite& tensor : tensors) {
    require(names.insert(tensor.name).second, "write safetensors", "tensor '{}': given twice", tensor.name);
    const std::int64_t bytes = bytes_of(tensor);
    if (!shards.back().empty() && size + bytes > max_shard_bytes) {
      shards.emplace_back();
      size = 0;
    }
    size += bytes;
    shards.back().push_back(&tensor);
  }
  for (Shard& shard : shards) {
    std::sort(shard.begin(), shard.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
      const std::size_t size_a = dtype_size(a->dtype), size_b = dtype_size(b->dtype);
      return size_a != size_b ? size_a > size_b : a->name < b->name;
    });
  }
  return shards;
}

// The length and the JSON, padded with spaces to a multiple of 8 bytes so that the data begin aligned.
std::string header_of(const Shard& shard) {
  OrderedJson header;
  header["__metadata__"] = {{"format", "pt"}};
  std::int64_t at = 0;
  for (const TensorToWrite* tensor : shard) {
    const std::int64_t end = at + bytes_of(*tensor);
    OrderedJson entry;
    entry["dtype"] = dtype_name(tensor->dtype);
    entry["shape"] = tensor->shape;
    entry["data_offsets"] = {at, end};
    header.push_back({tensor->name, std::move(entry)});
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string result(sizeof length, '\0');
  std::memcpy(result.data(), &length, sizeof length);
  return result + text;
}

class ByteCounter {
 public:
  ByteCounter(const Progress& progress, std::int64_t total) : progress_(progress), total_(total) {}
  void add(std::int64_t bytes) {
    done_ += bytes;
    if (progress_) progress_("writing tensors", done_, total_);
  }

 private:
  const Progress& progress_;
  std::int64_t done_ = 0, total_;
};

void write_file(const fs::path& path, const Shard& shard, ByteCounter& counter) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  const std::string header = header_of(shard);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const TensorToWrite* wanted : shard) {
    const Tensor tensor = wanted->load();
    require(tensor.defined() && tensor.dtype() == wanted->dtype && tensor.shape() == wanted->shape, "write safetensors",
            "tensor '{}': expected {} {}, got {} {}", wanted->name, dtype_name(wanted->dtype), to_string(wanted->shape),
            dtype_name(tensor.dtype()), to_string(tensor.shape()));
    out.write(static_cast<const char*>(tensor.raw()), tensor.nbytes());
    if (!out.good()) break;
    counter.add(tensor.nbytes());
  }
  out.close();
  require(out.good(), "write safetensors", "{}: cannot write: {}", path.string(), std::strerror(errno));
}

}  // namespace

TensorToWrite tensor_to_write(std::string name, const Tensor& tensor) {
  return {std::move(name), tensor.dtype(), tensor.shape(), [tensor] { return tensor; }};
}

void write_safetensors(const fs::path& folder, const std::vector<TensorToWrite>& tensors, std::int64_t max_shard_bytes,
                       const Progress& progress) {
  const std::vector<Shard> shards = split(tensors, max_shard_bytes);
  std::int64_t total = 0;
  for (const TensorToWrite& tensor : tensors) total += bytes_of(tensor);
  ByteCounter counter(progress, total);
  if (shards.size() == 1) {
    write_file(folder / "model.safetensors", shards[0], counter);
    return;
  }
  std::map<std::string, std::string> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_file(folder / name, shards[i], counter);
    for (const TensorToWrite* tensor : shards[i]) files[tensor->name] = name;
  }
  OrderedJson index;
  index["metadata"] = {{"total_size", total}};
  index["weight_map"] = files;
  std::ofstream out(folder / "model.safetensors.index.json", std::ios::trunc);
  out << index.dump(2) << "\n";
  out.close();
  require(out.good(), "write safetensors", "{}: cannot write the index", folder.string());
}

}  // namespace halftone
