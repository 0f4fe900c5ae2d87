#include "hf/synth.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/random.h"
#include "formats/bf16.h"
#include "hf/safetensors_writer.h"
#include "hf/synth_qwen2_vl.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

constexpr double kDeviation = 0.02;
constexpr std::int64_t kChunk = 1 << 20;  // elements that one generator fills; part of the definition of the weights

// x with Phi(x) = p for 0 < p <= 1/2, by bisection on the error function.
double lower_quantile(double p) {
  double low = -10, high = 0;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

// The middles of 65536 equally likely slices of normal(0, kDeviation): 16 random bits become one number by one look-up.
std::vector<std::uint16_t> normal_table() {
  constexpr int kSlices = 1 << 16;
  std::vector<std::uint16_t> table(kSlices);
  for (int i = 0; i < kSlices / 2; ++i) {
    const double x = kDeviation * lower_quantile((i + 0.5) / kSlices);
    table[static_cast<std::size_t>(i)] = bf16::encode(static_cast<float>(x));
    table[static_cast<std::size_t>(kSlices - 1 - i)] = bf16::encode(static_cast<float>(-x));
  }
  return table;
}

// FNV-1a, so that a tensor's numbers depend on its name and not on its place.
std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

Tensor random_normal(const std::string& name, const Shape& shape, std::uint64_t seed, ThreadPool& pool) {
  static const std::vector<std::uint16_t> kTable = normal_table();
  Tensor tensor(DType::kBF16, shape);
  auto* out = tensor.bits<std::uint16_t>();
  const std::int64_t count = tensor.numel();
  const std::uint64_t stream = Random(seed ^ hash_name(name)).next();
  pool.parallel_for((count + kChunk - 1) / kChunk, [&](std::int64_t chunk) {
    Random random(stream + static_cast<std::uint64_t>(chunk) * 0xd1342543de82ef95u);
    const std::int64_t end = std::min(count, (chunk + 1) * kChunk);
    for (std::int64_t i = chunk * kChunk; i < end; i += 4) {
      std::uint64_t bits = random.next();
      for (std::int64_t k = i; k < std::min(i + 4, end); ++k, bits >>= 16) out[k] = kTable[bits & 0xffff];
    }
  });
  return tensor;
}

Tensor constant(const Shape& shape, float value) {
  Tensor tensor(DType::kBF16, shape);
  std::fill_n(tensor.bits<std::uint16_t>(), tensor.numel(), bf16::encode(value));
  return tensor;
}

bool is_norm(std::string_view name) {
  const auto in = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  return in("norm") || in(".ln_q.");
}

void write_json(const fs::path& path, const OrderedJson& value, int indent = 2) {
  write_file_atomically(path, value.dump(indent) + "\n");
}

}  // namespace

std::vector<std::string> synth_names() {
  std::vector<std::string> names;
  for (const Qwen2VlSizes& sizes : qwen2_vl_sizes()) names.emplace_back(sizes.name);
  return names;
}

void synthesize(const std::string& like, const fs::path& folder, std::uint64_t seed, ThreadPool& pool,
                const Progress& progress, std::int64_t layers) {
  const auto& all = qwen2_vl_sizes();
  const auto known = std::find_if(all.begin(), all.end(), [&](const Qwen2VlSizes& s) { return s.name == like; });
  require(known != all.end(), "synth", "expected one of {}, got '{}'", fmt::join(synth_names(), ", "), like);
  require(layers >= 0, "synth", "expected 1 layer or more, got {}", layers);
  Qwen2VlSizes sizes = *known;
  if (layers > 0) sizes.layers = layers;
  require(!fs::exists(folder), "synth", "{}: exists already", folder.string());
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, shape] : qwen2_vl_tensors(sizes)) {
    const auto load = [&pool, seed, name = name, shape = shape] {
      if (is_norm(name)) return constant(shape, name.ends_with(".bias") ? 0.0f : 1.0f);
      return random_normal(name, shape, seed, pool);
    };
    tensors.push_back({name, DType::kBF16, shape, load});
  }
  PendingFolder pending(folder);
  write_json(pending.path() / "config.json", qwen2_vl_config(sizes));
  write_json(pending.path() / "preprocessor_config.json", qwen2_vl_preprocessor_config());
  write_json(pending.path() / "generation_config.json", qwen2_vl_generation_config());
  write_json(pending.path() / "tokenizer.json", qwen2_vl_tokenizer(), -1);
  write_json(pending.path() / "tokenizer_config.json", qwen2_vl_tokenizer_config());
  write_json(pending.path() / "chat_template.json", {{"chat_template", qwen2_vl_chat_template()}});
  write_safetensors(pending.path(), tensors, kDefaultShardBytes, progress);
  pending.commit();
}

}  // namespace halftone
