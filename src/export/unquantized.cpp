#include "export/unquantized.h"

#include <set>

#include "base/file.h"
#include "export/layouts.h"
#include "hf/kv_cache_key.h"
#include "hf/safetensors_writer.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

// Modules that are stored quantized: the scheme may also reach some that stayed as they were.
std::set<std::string> quantized_modules(const Checkpoint& source) {
  std::set<std::string> modules;
  for (const auto& [name, info] : source.tensors()) {
    const std::string module = module_of(name);
    for (const char* part : {".weight", ".weight_packed", ".qweight"}) {
      if (name != module + part) continue;
      const DType t = info.dtype;
      const bool plain = t == DType::kF32 || t == DType::kF16 || t == DType::kBF16;
      if (!plain && source.quantization().scheme_of(module)) modules.insert(module);
    }
  }
  return modules;
}

DType weight_dtype(const Checkpoint& source) {
  if (source.quantization().layout() == Layout::kGguf) return DType::kBF16;
  for (const auto& [name, info] : source.tensors()) {
    if (name.ends_with("embed_tokens.weight")) return info.dtype;
  }
  return DType::kBF16;
}

void add_low_rank(const Tensor& a, const Tensor& b, Tensor& weight) {
  const Tensor left = to_f32(b), right = to_f32(a);
  const std::int64_t rank = right.dim(0), cols = weight.dim(1);
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * cols;
    for (std::int64_t k = 0; k < rank; ++k) {
      const float factor = left.data<float>()[r * rank + k];
      const float* source = right.data<float>() + k * cols;
      for (std::int64_t c = 0; c < cols; ++c) row[c] += factor * source[c];
    }
  }
}

OrderedJson plain_config(const Checkpoint& source) {
  OrderedJson config = source.config();
  for (const char* key : {"quantization_config", "halftone"}) config.erase(key);
  config.erase(std::string(kKvCacheKey));
  return config;
}

}  // namespace

Tensor effective_weight(const LinearParts& parts) {
  const Tensor decoded = dequantize(parts.weight);
  const std::int64_t rows = decoded.dim(0), cols = decoded.dim(1);
  Tensor weight = decoded;
  if (parts.input_order.defined()) {
    weight = Tensor(DType::kF32, decoded.shape());
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      weight.data<float>()[i / cols * cols + parts.input_order.data<std::int32_t>()[i % cols]] =
          decoded.data<float>()[i];
    }
  }
  if (parts.low_rank_a.defined()) add_low_rank(parts.low_rank_a, parts.low_rank_b, weight);
  if (parts.input_scales.defined()) {
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      weight.data<float>()[i] *= parts.input_scales.data<float>()[i % cols];
    }
  }
  return weight;
}

void write_unquantized(const Checkpoint& source, const fs::path& folder, const Progress& progress) {
  const std::set<std::string> modules = quantized_modules(source);
  const DType dtype = weight_dtype(source);
  std::vector<TensorToWrite> tensors;
  for (const std::string& module : modules) {
    const Shape shape = load_linear(source, module).weight.shape;
    tensors.push_back({module + ".weight", dtype, shape, [&source, module, dtype] {
                         return from_f32(effective_weight(load_linear(source, module)), dtype);
                       }});
  }
  for (const auto& [name, info] : source.tensors()) {
    if (name.ends_with(".k_scale") || name.ends_with(".v_scale")) continue;
    if (modules.contains(module_of(name)) && !name.ends_with(".bias")) continue;
    if (const auto at = name.find(".weight."); at != std::string::npos && modules.contains(name.substr(0, at)))
      continue;
    tensors.push_back({name, info.dtype, info.shape, [&source, n = name] { return source.tensor(n); }});
  }
  copy_companions(source.folder(), folder);
  write_file_atomically(folder / "config.json", plain_config(source).dump(2) + "\n");
  write_safetensors(folder, tensors, kDefaultShardBytes, progress);
}

}  // namespace halftone
