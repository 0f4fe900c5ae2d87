#include "hf/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/json.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "write safetensors";

using Shard = std::vector<TensorSlot>;

std::vector<Shard> split(const std::vector<TensorSlot>& slots, std::int64_t max_shard_bytes) {
  require(max_shard_bytes > 0, kWhere, "expected a shard size above 0, got {}", max_shard_bytes);
  std::vector<Shard> shards(1);
  std::int64_t size = 0;
  std::set<std::string_view> names;
  for (const TensorSlot& slot : slots) {
    require(names.insert(slot.name).second, kWhere, "tensor '{}': given twice", slot.name);
    const std::int64_t bytes = slot.nbytes();
    if (!shards.back().empty() && size + bytes > max_shard_bytes) {
      shards.emplace_back();
      size = 0;
    }
    size += bytes;
    shards.back().push_back(slot);
  }
  for (Shard& shard : shards) {
    std::sort(shard.begin(), shard.end(), [](const TensorSlot& a, const TensorSlot& b) {
      const std::size_t size_a = dtype_size(a.dtype), size_b = dtype_size(b.dtype);
      return size_a != size_b ? size_a > size_b : a.name < b.name;
    });
  }
  return shards;
}

// The length and the JSON, padded with spaces to a multiple of 8 bytes so that the data begin aligned.
std::string header_of(const Shard& shard) {
  // each entry is a small document of its own: an ordered object would search all its keys for each new one
  std::string text = R"({"__metadata__":{"format":"pt"})";
  std::int64_t at = 0;
  for (const TensorSlot& slot : shard) {
    const std::int64_t end = at + slot.nbytes();
    OrderedJson entry;
    entry["dtype"] = dtype_name(slot.dtype);
    entry["shape"] = slot.shape;
    entry["data_offsets"] = {at, end};
    text += "," + OrderedJson(slot.name).dump() + ":" + entry.dump();
    at = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string result(sizeof length, '\0');
  std::memcpy(result.data(), &length, sizeof length);
  return result + text;
}

FileLayout lay_out_shard(std::string name, const Shard& shard) {
  FileLayout file{std::move(name), header_of(shard), {}, 0};
  file.size = static_cast<std::int64_t>(file.header.size());
  for (const TensorSlot& slot : shard) {
    file.places.push_back({slot, file.size});
    file.size += slot.nbytes();
  }
  return file;
}

FileLayout lay_out_index(const std::vector<FileLayout>& files) {
  Json map = Json::object();
  std::int64_t total = 0;
  for (const FileLayout& file : files) {
    for (const auto& [slot, offset] : file.places) {
      map[slot.name] = file.name;
      total += slot.nbytes();
    }
  }
  OrderedJson document;
  document["metadata"] = {{"total_size", total}};
  document["weight_map"] = std::move(map);
  FileLayout index{"model.safetensors.index.json", document.dump(2) + "\n", {}, 0};
  index.size = static_cast<std::int64_t>(index.header.size());
  return index;
}

}  // namespace

std::vector<FileLayout> lay_out_safetensors(const std::vector<TensorSlot>& slots, std::int64_t max_shard_bytes) {
  const std::vector<Shard> shards = split(slots, max_shard_bytes);
  std::vector<FileLayout> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    files.push_back(lay_out_shard(shards.size() == 1 ? "model.safetensors" : std::move(name), shards[i]));
  }
  if (files.size() > 1) files.push_back(lay_out_index(files));
  return files;
}

TensorToWrite tensor_to_write(std::string name, const Tensor& tensor) {
  return {std::move(name), tensor.dtype(), tensor.shape(), [tensor] { return tensor; }};
}

void write_safetensors(const std::filesystem::path& folder, const std::vector<TensorToWrite>& tensors,
                       std::int64_t max_shard_bytes, const Progress& progress) {
  std::vector<TensorSlot> slots;
  std::map<std::string_view, const TensorToWrite*> by_name;
  for (const TensorToWrite& tensor : tensors) {
    slots.push_back({tensor.name, tensor.dtype, tensor.shape});
    by_name[tensor.name] = &tensor;
  }
  write_tensors(
      folder, lay_out_safetensors(slots, max_shard_bytes),
      [&](const std::string& name) { return by_name.at(name)->load(); }, progress);
}

}  // namespace halftone
