#include "hf/checkpoint.h"

#include <array>
#include <mutex>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "base/thread_pool.h"
#include "hf/gguf_folder.h"
#include "hf/gguf_names.h"
#include "hf/safetensors.h"
#include "hf/shard_index.h"

namespace halftone {
namespace fs = std::filesystem;

struct Checkpoint::State {
  struct Location {
    const std::byte* data = nullptr;
    std::shared_ptr<const void> owner;
    bool mapped = true;  // pages of a file, which can be given back
  };

  fs::path folder, file;  // the only file of weights, the shards' index, or the language model's
  OrderedJson config;
  QuantizationConfig quantization;
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, Location, std::less<>> locations;

  std::shared_ptr<const State> on_disk;  // of an untied checkpoint: what it was made of, whose hashes it has

  mutable std::mutex mutex;
  mutable std::map<std::string, std::string, std::less<>> hashes;  // by prefix

  void read_configuration();
  void add_file(const fs::path& path);
  void add_shards(const fs::path& index_path);
  void add_gguf();
};

void Checkpoint::State::read_configuration() {
  const fs::path path = folder / "config.json", modelopt = folder / "hf_quant_config.json";
  config = read_ordered_json(path);
  require(config.is_object(), path.string(), "expected an object, found {}", config.type_name());
  const OrderedJson second = fs::exists(modelopt) ? read_ordered_json(modelopt) : OrderedJson();
  quantization = QuantizationConfig::parse(config, path.string(), second, modelopt.string());
}

void Checkpoint::State::add_file(const fs::path& path) {
  const MappedFile file(path);
  SafetensorsHeader header = parse_safetensors_header(file.bytes(), path.string());
  for (auto& [name, entry] : header.tensors) {
    const auto nbytes = static_cast<std::int64_t>(entry.nbytes());
    const auto [it, fresh] = tensors.try_emplace(name, TensorInfo{entry.dtype, std::move(entry.shape), path, nbytes});
    require(fresh, path.string(), "tensor '{}': expected it in one file, found it in '{}' too", name,
            it->second.file.filename().string());
    locations[name] = {file.bytes().data() + header.data_begin + entry.begin, file.owner(), true};
  }
}

void Checkpoint::State::add_shards(const fs::path& index_path) {
  const std::string source = index_path.string();
  const auto map = parse_shard_index(read_json(index_path, 256 << 20), source);
  std::set<std::string> files;
  for (const auto& [name, file] : map) files.insert(file);
  for (const std::string& file : files) {
    require(fs::exists(folder / file), source, "expected the file '{}' that the index names, found none", file);
    add_file(folder / file);
  }
  for (const auto& [name, file] : map) {
    const auto it = tensors.find(name);
    require(it != tensors.end() && it->second.file == folder / file, source,
            "tensor '{}': expected it in '{}', found it {}", name, file,
            it == tensors.end() ? "nowhere" : "in '" + it->second.file.filename().string() + "'");
  }
}

void Checkpoint::State::add_gguf() {
  GgufFolder gguf = map_gguf_folder(folder);
  for (auto& [name, entry] : gguf.tensors) {
    tensors[name] = {entry.dtype, entry.shape, entry.file, entry.nbytes()};
    locations[name] = {entry.data, std::move(entry.owner), entry.mapped};
  }
  quantization = QuantizationConfig::of_gguf(gguf.quantized);
}

Checkpoint Checkpoint::open(const fs::path& folder) {
  require(fs::is_directory(folder), folder.string(), "expected a checkpoint folder, found {}",
          fs::exists(folder) ? "a file" : "nothing");
  auto state = std::make_shared<State>();
  state->folder = folder;
  state->read_configuration();
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  state->file = fs::exists(single) ? single : fs::exists(index) ? index : folder / "model.gguf";
  if (state->file == single) {
    state->add_file(single);
  } else if (state->file == index) {
    state->add_shards(index);
  } else {
    require(fs::exists(state->file), folder.string(),
            "expected model.safetensors, model.safetensors.index.json or model.gguf, found none");
    state->add_gguf();
  }
  Checkpoint checkpoint;
  checkpoint.state_ = std::move(state);
  return checkpoint;
}

Checkpoint Checkpoint::untied(const std::string& head, const std::string& embedding) const {
  auto state = std::make_shared<State>();
  state->folder = state_->folder;
  state->file = state_->file;
  state->config = state_->config;
  state->quantization = state_->quantization;
  state->tensors = state_->tensors;
  state->locations = state_->locations;
  state->on_disk = state_->on_disk ? state_->on_disk : state_;
  const std::string ours = head + ".weight", theirs = embedding + ".weight";
  const bool has_head = contains(ours), has_table = contains(theirs);
  require(has_head || has_table, file_of(theirs), "tensor '{}': missing (also as '{}')", theirs, ours);
  if (has_head != has_table) {
    const std::string &stored = has_head ? ours : theirs, &added = has_head ? theirs : ours;
    state->tensors[added] = state_->tensors.at(stored);
    state->locations[added] = state_->locations.at(stored);
    state->tensors[ours].shared = true;
  }
  state->config["tie_word_embeddings"] = false;
  const auto text = state->config.find("text_config");
  if (text != state->config.end() && text->contains("tie_word_embeddings")) (*text)["tie_word_embeddings"] = false;
  Checkpoint checkpoint;
  checkpoint.state_ = std::move(state);
  return checkpoint;
}

const fs::path& Checkpoint::folder() const { return state_->folder; }

const OrderedJson& Checkpoint::config() const { return state_->config; }

const QuantizationConfig& Checkpoint::quantization() const { return state_->quantization; }

const std::map<std::string, TensorInfo>& Checkpoint::tensors() const { return state_->tensors; }

bool Checkpoint::contains(std::string_view name) const { return state_->locations.contains(name); }

std::string Checkpoint::file_of(std::string_view name) const {
  if (const auto it = state_->locations.find(name); it != state_->locations.end()) {
    return state_->tensors.at(it->first).file.string();
  }
  const bool tower = state_->quantization.layout() == Layout::kGguf && in_vision_file(name);
  return (tower ? state_->folder / "mmproj.gguf" : state_->file).string();
}

Tensor Checkpoint::tensor(std::string_view name) const {
  const auto it = state_->locations.find(name);
  require(it != state_->locations.end(), file_of(name), "tensor '{}': expected in the checkpoint, found none", name);
  const TensorInfo& info = state_->tensors.at(it->first);
  const Tensor view = Tensor::borrow(info.dtype, info.shape, it->second.data, it->second.owner);
  // headers may have any length, so tensors may begin at any byte; typed access needs aligned ones
  const bool aligned = reinterpret_cast<std::uintptr_t>(it->second.data) % dtype_size(info.dtype) == 0;
  return aligned ? view : view.clone();
}

void Checkpoint::drop_pages(std::string_view prefix) const {
  const auto& locations = state_->locations;
  for (auto it = locations.lower_bound(prefix); it != locations.end() && it->first.starts_with(prefix); ++it) {
    if (!it->second.mapped) continue;
    const auto nbytes = static_cast<std::size_t>(state_->tensors.at(it->first).nbytes);
    MappedFile::drop_pages({it->second.data, nbytes});
  }
}

namespace {

constexpr std::int64_t kHashChunk = 64 << 20;  // bytes hashed by one task; part of the definition of the hash

struct HashedTensor {
  std::string line;  // name, dtype, shape
  std::span<const std::byte> bytes;
  bool mapped;
};

// SHA-256 of each chunk of each tensor; their concatenation, below the line of its tensor, is what is hashed in the
// end.
std::string hash_tensors(const std::vector<HashedTensor>& tensors) {
  struct Chunk {
    std::span<const std::byte> bytes;
    bool mapped;
    std::string hash;
  };
  std::vector<std::vector<Chunk>> chunks(tensors.size());
  std::vector<Chunk*> tasks;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto bytes = tensors[i].bytes;
    chunks[i].reserve(bytes.size() / kHashChunk + 1);
    for (std::size_t at = 0; at < bytes.size(); at += kHashChunk) {
      chunks[i].push_back(
          {bytes.subspan(at, std::min<std::size_t>(kHashChunk, bytes.size() - at)), tensors[i].mapped, ""});
      tasks.push_back(&chunks[i].back());
    }
  }
  ThreadPool pool;
  pool.parallel_for(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
    Chunk& chunk = *tasks[static_cast<std::size_t>(i)];
    chunk.hash = Sha256().update(chunk.bytes).hex();
    if (chunk.mapped) MappedFile::drop_pages(chunk.bytes);
  });
  Sha256 whole;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    whole.update(tensors[i].line);
    for (const Chunk& chunk : chunks[i]) whole.update(chunk.hash);
  }
  return whole.hex();
}

}  // namespace

std::string Checkpoint::content_hash(std::string_view prefix) const {
  if (state_->on_disk) {
    Checkpoint original;
    original.state_ = state_->on_disk;
    return original.content_hash(prefix);
  }
  const std::lock_guard lock(state_->mutex);
  if (const auto it = state_->hashes.find(prefix); it != state_->hashes.end()) return it->second;
  std::vector<HashedTensor> tensors;
  for (const auto& [name, info] : state_->tensors) {
    if (!name.starts_with(prefix)) continue;
    const State::Location& location = state_->locations.at(name);
    tensors.push_back({fmt::format("\n{} {} {}\n", name, dtype_name(info.dtype), to_string(info.shape)),
                       std::span(location.data, static_cast<std::size_t>(info.nbytes)), location.mapped});
  }
  return state_->hashes[std::string(prefix)] = hash_tensors(tensors);
}

std::string Checkpoint::files_hash() const {
  constexpr std::array kFiles{"config.json",         "generation_config.json",  "hf_quant_config.json",
                              "tokenizer.json",      "tokenizer_config.json",   "chat_template.json",
                              "chat_template.jinja", "preprocessor_config.json"};
  Sha256 hash;
  for (const char* name : kFiles) {
    const std::filesystem::path path = folder() / name;
    if (!std::filesystem::exists(path)) continue;
    const std::string content = read_file(path);
    hash.update(fmt::format("{} {}\n", name, content.size())).update(content);
  }
  return hash.hex();
}

}  // namespace halftone
