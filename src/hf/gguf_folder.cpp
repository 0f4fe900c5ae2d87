#include "hf/gguf_folder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/file.h"
#include "hf/gguf.h"
#include "hf/gguf_names.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPatchHalves[] = {"v.patch_embd.weight", "v.patch_embd.weight.1"};
constexpr std::string_view kPatchName = "visual.patch_embed.proj.weight", kEmbedding = "model.embed_tokens";

GgufEntry own(const Tensor& tensor, const fs::path& file) {
  auto copy = std::make_shared<Tensor>(tensor);
  const auto* data = static_cast<const std::byte*>(copy->raw());
  return {tensor.dtype(), tensor.shape(), file, data, copy, false};
}

class FileReader {
 public:
  FileReader(const fs::path& path, GgufFolder& folder)
      : path_(path), source_(path.string()), file_(path), folder_(folder) {
    header_ = parse_gguf_header(file_.bytes(), source_);
    const auto split = header_.values.find("split.count");
    require(split == header_.values.end(), source_, "expected one file, found one part of several (split.count)");
  }

  void read() {
    for (const auto& [name, tensor] : header_.tensors) {
      if (name == kPatchHalves[0] || name == kPatchHalves[1]) continue;
      add(name, tensor);
    }
    join_patches();
    for (auto& [name, parts] : qkv_) join_qkv(name, parts);
  }

 private:
  // "blk.0.attn_q.weight" -> the same in Hugging Face's names.
  std::pair<std::string, std::string> split_name(const std::string& name) const {
    const std::size_t dot = name.rfind('.');
    const auto module = dot == std::string::npos ? std::nullopt : module_of_gguf(name.substr(0, dot));
    const std::string part = module ? name.substr(dot + 1) : "";
    require(part == "weight" || part == "bias", source_, "tensor '{}': expected a tensor of Qwen2-VL, found this name",
            name);
    return {*module, part};
  }

  void add(const std::string& name, const GgufTensor& tensor) {
    const auto [module, part] = split_name(name);
    GgufEntry entry = entry_of(name, tensor);
    for (const std::string_view letter : {"q", "k", "v"}) {
      if (!module.starts_with("visual.") || !module.ends_with("attn." + std::string(letter))) continue;
      const std::string joined = module.substr(0, module.size() - 1) + "qkv." + part;
      qkv_[joined].push_back({letter, tensor.type, std::move(entry)});
      return;
    }
    if (!plain_dtype(tensor.type) && module == kEmbedding) {
      const Tensor blocks = Tensor::borrow(entry.dtype, entry.shape, entry.data, entry.owner);
      entry = own(dequantize(unpack_ggml(tensor.type, blocks, tensor.shape.back(), source_ + ": " + name)), path_);
    } else {
      note_type(module, part, tensor.type, name);
    }
    put(module + "." + part, std::move(entry));
  }

  GgufEntry entry_of(const std::string& name, const GgufTensor& tensor) const {
    GgufEntry entry{DType::kU8, tensor.shape, path_, file_.bytes().data() + tensor.begin, file_.owner(), true};
    if (const auto dtype = plain_dtype(tensor.type)) {
      entry.dtype = *dtype;
      return entry;
    }
    require(tensor.shape.size() == 2 && spec_of_ggml(tensor.type), source_,
            "tensor '{}': expected F32, F16, BF16, or a matrix of Q8_0, Q4_0, Q4_K or Q6_K, found {} {}", name,
            ggml_type_info(tensor.type).name, to_string(tensor.shape));
    entry.shape.back() = static_cast<std::int64_t>(tensor.nbytes) / tensor.shape.front();
    return entry;
  }

  void note_type(const std::string& module, const std::string& part, GgmlType type, const std::string& name) {
    if (plain_dtype(type)) return;
    require(part == "weight", source_, "tensor '{}': expected F32, F16 or BF16, found {}", name,
            ggml_type_info(type).name);
    folder_.quantized[module] = type;
  }

  void put(const std::string& name, GgufEntry entry) {
    const auto [it, fresh] = folder_.tensors.try_emplace(name, std::move(entry));
    require(fresh, source_, "tensor '{}': expected it in one file, found it in '{}' too", name,
            it->second.file.filename().string());
  }

  struct Part {
    std::string_view letter;
    GgmlType type;
    GgufEntry entry;
  };

  // Query, key and value rows one below the other; a view where they lie so in the file.
  void join_qkv(const std::string& name, std::vector<Part>& parts) {
    const auto place = [](const Part& part) { return std::string_view("qkv").find(part.letter); };
    std::sort(parts.begin(), parts.end(), [&](const Part& a, const Part& b) { return place(a) < place(b); });
    require(parts.size() == 3, source_, "tensor '{}': expected the matrices q, k and v, found {} of them", name,
            parts.size());
    const GgufEntry& first = parts[0].entry;
    bool adjacent = true;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const GgufEntry& entry = parts[i].entry;
      require(parts[i].type == parts[0].type && entry.shape == first.shape, source_,
              "tensor '{}': expected q, k and v of one type and shape, found {} {} and {} {}", name,
              ggml_type_info(parts[0].type).name, to_string(first.shape), ggml_type_info(parts[i].type).name,
              to_string(entry.shape));
      adjacent = adjacent && entry.data == first.data + static_cast<std::int64_t>(i) * first.nbytes();
    }
    GgufEntry joined = first;
    joined.shape[0] *= 3;
    if (!adjacent) {
      Tensor copy(joined.dtype, joined.shape);
      auto* target = static_cast<std::byte*>(copy.raw());
      for (const Part& part : parts) {
        target = std::copy_n(part.entry.data, part.entry.nbytes(), target);
      }
      joined = own(copy, path_);
    }
    const std::size_t dot = name.rfind('.');
    note_type(name.substr(0, dot), name.substr(dot + 1), parts[0].type, name);
    put(name, std::move(joined));
  }

  // Two convolutions [width, channels, size, size], one for each of two frames, into [width, channels, 2, size, size].
  void join_patches() {
    std::array<const GgufTensor*, 2> halves{};
    for (std::size_t i = 0; i < 2; ++i) {
      const auto it = header_.tensors.find(std::string(kPatchHalves[i]));
      halves[i] = it == header_.tensors.end() ? nullptr : &it->second;
    }
    if (halves[0] == nullptr && halves[1] == nullptr) return;
    require(halves[0] != nullptr && halves[1] != nullptr, source_,
            "tensor '{}': expected beside the other one, found none", kPatchHalves[halves[0] == nullptr ? 0 : 1]);
    const GgufTensor &a = *halves[0], &b = *halves[1];
    require(
        a.shape.size() == 4 && a.shape == b.shape && a.type == b.type && plain_dtype(a.type), source_,
        "tensor '{}': expected two tensors of one type and of the shape [width, channels, size, size], found {} and {}",
        kPatchHalves[0], to_string(a.shape), to_string(b.shape));
    Tensor whole(*plain_dtype(a.type), {a.shape[0], a.shape[1], 2, a.shape[2], a.shape[3]});
    const std::int64_t plane = a.shape[2] * a.shape[3] * static_cast<std::int64_t>(dtype_size(whole.dtype()));
    auto* target = static_cast<std::byte*>(whole.raw());
    for (std::int64_t i = 0; i < a.shape[0] * a.shape[1]; ++i) {
      for (const GgufTensor* half : halves) {
        target = std::copy_n(file_.bytes().data() + half->begin + i * plane, plane, target);
      }
    }
    put(std::string(kPatchName), own(whole, path_));
  }

  fs::path path_;
  std::string source_;
  MappedFile file_;
  GgufHeader header_;
  GgufFolder& folder_;
  std::map<std::string, std::vector<Part>> qkv_;  // by the joined tensor's name
};

}  // namespace

GgufFolder map_gguf_folder(const fs::path& folder) {
  GgufFolder result;
  FileReader(folder / "model.gguf", result).read();
  if (fs::exists(folder / "mmproj.gguf")) FileReader(folder / "mmproj.gguf", result).read();
  return result;
}

}  // namespace halftone
