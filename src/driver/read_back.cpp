#include "driver/read_back.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <thread>
#include <vector>

#include "base/checksum.h"
#include "hf/module_pattern.h"

namespace halftone {
namespace {

// Of dtype, number of bytes and bytes; scales may be [n] or [n, 1].
std::uint64_t checksum_of(const Tensor& tensor) {
  if (!tensor.defined()) return 0;
  const std::uint64_t bytes =
      checksum({static_cast<const std::byte*>(tensor.raw()), static_cast<std::size_t>(tensor.nbytes())});
  const std::uint64_t kind[] = {static_cast<std::uint64_t>(tensor.dtype()), bytes};
  return checksum(std::as_bytes(std::span(kind)));
}

std::uint64_t checksum_of(const std::string& text) { return checksum(std::as_bytes(std::span(text))); }

// A GGUF file holds vectors as F32.
std::uint64_t checksum_as(DType dtype, const Tensor& tensor) {
  return checksum_of(tensor.defined() && dtype == DType::kF32 ? to_f32(tensor) : tensor);
}

// Zero points that are all the middle of the codes are read as none.
Tensor stated_zeros(const QTensor& q) {
  if (!q.zeros.defined()) return {};
  const std::int8_t* zeros = q.zeros.data<std::int8_t>();
  return std::all_of(zeros, zeros + q.zeros.numel(), [](std::int8_t z) { return z == 0; }) ? Tensor() : q.zeros;
}

QuantSpec stated_spec(const QTensor& q) {
  QuantSpec spec = q.spec;
  spec.asymmetric = stated_zeros(q).defined() || q.offsets.defined();
  return spec;
}

// A GGUF file is read under the names of the published checkpoints, whatever the source has.
std::string name_in(const Checkpoint& written, const std::string& name) {
  for (const std::string& alias : module_aliases(name)) {
    if (written.contains(alias)) return alias;
  }
  return name;
}

std::string module_in(const Checkpoint& written, const std::string& module) {
  if (written.quantization().layout() != Layout::kGguf) return module;
  const std::string weight = name_in(written, module + ".weight");
  return weight.substr(0, weight.rfind('.'));
}

void check_kv(const Checkpoint& written, const KvQuantization& wanted) {
  // A cache without scales (bf16, or fp8 with the scale 1.0) has a format only.
  const auto layers = std::max<std::int64_t>(1, std::ssize(wanted.layers));
  const KvQuantization found = load_kv_quantization(written, layers);
  const std::string where = written.folder().string();
  require(found.format == wanted.format, where, "KV cache: expected the format {}, found {}", wanted.format,
          found.format);
  for (std::size_t i = 0; i < wanted.layers.size(); ++i) {
    require(found.layers.at(i).k == wanted.layers[i].k && found.layers.at(i).v == wanted.layers[i].v, where,
            "KV cache: the scales of layer {} read back are not those written", i);
  }
}

}  // namespace

WrittenValues::Digest WrittenValues::digest_of(const LinearParts& parts) {
  const QTensor& q = parts.weight;
  Digest digest;
  digest["format"] = checksum_of(to_string(stated_spec(q)) + to_string(q.shape));
  digest["payload"] = checksum_of(q.payload);
  digest["scale"] = checksum_of(q.scales);
  digest["zero point"] = checksum_of(stated_zeros(q));
  digest["offset"] = checksum_of(q.offsets);
  digest["global scale"] = checksum_of(fmt::format("{} {}", q.global_scale, q.inverse_global));
  digest["scale of the inputs"] = checksum_of(parts.input_scales);
  digest["low-rank part"] = checksum_of(parts.low_rank_a) ^ std::rotl(checksum_of(parts.low_rank_b), 1);
  digest["input scale"] =
      checksum_of(fmt::format("{} {} {}", static_cast<int>(parts.input.kind), parts.input.scale, parts.input.inverse));
  return digest;
}

void WrittenValues::add_module(const std::string& module, const LinearParts& parts) {
  modules_[module] = digest_of(parts);
  if (parts.bias.defined()) add_tensor(module + ".bias", parts.bias);
}

void WrittenValues::add_tensor(const std::string& name, const Tensor& value) {
  tensors_[name] = {checksum_of(value), checksum_as(DType::kF32, value)};
}

void WrittenValues::check_module(const Checkpoint& written, const std::string& module) const {
  const Digest found = digest_of(load_linear(written, module_in(written, module)));
  for (const auto& [part, wanted] : modules_.at(module)) {
    require(found.at(part) == wanted, written.folder().string(),
            "tensor '{}': the {} read back is not the one that was written", module, part);
  }
}

void WrittenValues::check_tensor(const Checkpoint& written, const Checkpoint& source, const std::string& name) const {
  const Tensor found = written.tensor(name_in(written, name));
  const auto changed = tensors_.find(name);
  bool equal = false;
  if (changed != tensors_.end()) {
    equal = checksum_of(found) == (found.dtype() == DType::kF32 ? changed->second.widened : changed->second.stored);
  } else {
    const Tensor stored = source.tensor(name);
    const Tensor wanted = found.dtype() == DType::kF32 ? to_f32(stored) : stored;
    equal = found.dtype() == wanted.dtype() && found.nbytes() == wanted.nbytes() &&
            std::memcmp(found.raw(), wanted.raw(), static_cast<std::size_t>(found.nbytes())) == 0;
  }
  require(equal, written.folder().string(), "tensor '{}': what is read back is not what was written", name);
}

void WrittenValues::check(const std::filesystem::path& folder, const Checkpoint& source, const KvQuantization& kv,
                          Stream& stream, const Progress& progress) const {
  const Checkpoint written = Checkpoint::open(folder);
  std::vector<std::string> modules, tensors;
  for (const auto& [module, digest] : modules_) modules.push_back(module);
  for (const auto& [name, info] : source.tensors()) {
    const bool of_module = modules_.contains(name.substr(0, name.rfind('.')));
    if (!of_module || name.ends_with(".bias")) tensors.push_back(name);
  }
  const auto count = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  const std::int64_t total = count(modules) + count(tensors);
  const auto caller = std::this_thread::get_id();  // who may tell
  std::atomic<std::int64_t> checked{0};
  const auto tell = [&] {
    if (progress && std::this_thread::get_id() == caller) progress("reading back", checked, total);
  };
  tell();
  stream.pool->parallel_for(total, [&](std::int64_t i) {
    if (i < count(tensors)) {
      check_tensor(written, source, tensors[static_cast<std::size_t>(i)]);
    } else {
      check_module(written, modules[static_cast<std::size_t>(i - count(tensors))]);
    }
    if (++checked < total) tell();
  });
  tell();
  check_kv(written, kv);
}

}  // namespace halftone
