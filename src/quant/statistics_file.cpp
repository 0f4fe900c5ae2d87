#include "quant/statistics_file.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/file.h"
#include "base/hash.h"
#include "hf/safetensors.h"
#include "model/registry.h"

namespace halftone {
namespace {

constexpr std::string_view kAttention = ".self_attn";

class StatisticsReader {
 public:
  StatisticsReader(const std::filesystem::path& path, std::span<const ModuleInfo> modules)
      : file_(path), source_(path.string()), header_(parse_safetensors_header(file_.bytes(), source_)) {
    for (const ModuleInfo& module : modules) {
      if (module.linear) inputs_[module.module] = module.shape.at(1);
    }
  }

  Calibration read() {
    for (const auto& [name, entry] : header_.tensors) {
      const Tensor tensor = load(name, entry);
      if (name.ends_with(".k.absmax") || name.ends_with(".v.absmax")) {
        add_cache(name, tensor);
      } else {
        add_module(name, tensor);
      }
    }
    finish();
    return std::move(calibration_);
  }

 private:
  Tensor load(const std::string& name, const SafetensorsEntry& entry) const {
    require(entry.dtype == DType::kF32, source_, "tensor '{}': expected F32, found {}", name, dtype_name(entry.dtype));
    const std::byte* data = file_.bytes().data() + header_.data_begin + entry.begin;
    const Tensor tensor = Tensor::borrow(entry.dtype, entry.shape, data, file_.owner()).clone();
    const bool rows = name.ends_with("rows");
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      const float value = tensor.data<float>()[i];
      require(std::isfinite(value) && (rows || value >= 0), source_,
              "tensor '{}': expected finite numbers{}, found {} at {}", name, rows ? "" : " of 0 or more", value, i);
    }
    return tensor;
  }

  // MODULE and the part behind it.
  void add_module(const std::string& name, const Tensor& tensor) {
    std::size_t cut = name.rfind('.');
    if (cut != std::string::npos && cut > 0) cut = name.rfind('.', cut - 1);
    const std::string module = cut == std::string::npos ? "" : name.substr(0, cut);
    const std::string part = cut == std::string::npos ? name : name.substr(cut + 1);
    const auto known = inputs_.find(module);
    require(known != inputs_.end(), source_, "tensor '{}': expected a linear layer of the checkpoint, found none",
            name);
    auto& statistics = modules_[module];
    if (!statistics) statistics = std::make_shared<InputStatistics>();
    const Shape vector{known->second};
    if (part == "input.absmax") {
      statistics->absmax = values(name, tensor, vector);
    } else if (part == "input.abs_mean") {
      const std::vector<float> means = values(name, tensor, vector);
      statistics->abs_sum.assign(means.begin(), means.end());
    } else if (part == "input.rows" || part == "input.clip_rows") {
      require(tensor.rank() == 2 && tensor.dim(0) > 0 && tensor.dim(1) == known->second, source_,
              "tensor '{}': expected shape [rows, {}], found {}", name, known->second, to_string(tensor.shape()));
      (part == "input.rows" ? statistics->rows : statistics->clip_rows) = tensor;
    } else if (part == "input.row_weights") {
      statistics->row_weights = values(name, tensor, {tensor.numel()});
    } else if (part == "input.amax") {
      statistics->amax = values(name, tensor, {1}).front();
    } else if (part == "weight.relative_mean") {
      calibration_.weight_relative_mean[module] = values(name, tensor, vector);
    } else if (part == "input.awq_scale") {
      const std::vector<float> scale = values(name, tensor, vector);
      require(std::all_of(scale.begin(), scale.end(), [](float s) { return s > 0; }), source_,
              "tensor '{}': expected scales above 0, found 0", name);
      calibration_.awq_scale[module] = scale;
    } else {
      fail(source_, "tensor '{}': expected a part that docs/statistics.md names, found '{}'", name, part);
    }
  }

  void add_cache(const std::string& name, const Tensor& tensor) {
    const std::string attention = name.substr(0, name.size() - std::string_view(".k.absmax").size());
    require(attention.ends_with(kAttention), source_, "tensor '{}': expected '{}' before the part", name, kAttention);
    std::int64_t layer = -1;
    for (std::int64_t i = 0; layer < 0 && i < std::ssize(inputs_); ++i) {
      if (attention == fmt::format("model.layers.{}{}", i, kAttention)) layer = i;
    }
    require(layer >= 0, source_, "tensor '{}': expected model.layers.N{}, found another name", name, kAttention);
    if (std::ssize(calibration_.kv) <= layer) calibration_.kv.resize(static_cast<std::size_t>(layer + 1));
    KvStatistics& kv = calibration_.kv[static_cast<std::size_t>(layer)];
    (name.ends_with(".k.absmax") ? kv.k : kv.v) = values(name, tensor, {tensor.numel()});
  }

  std::vector<float> values(const std::string& name, const Tensor& tensor, const Shape& shape) const {
    require(tensor.shape() == shape && tensor.numel() > 0, source_, "tensor '{}': expected shape {}, found {}", name,
            to_string(shape), to_string(tensor.shape()));
    return {tensor.data<float>(), tensor.data<float>() + tensor.numel()};
  }

  void finish() {
    for (auto& [module, statistics] : modules_) {
      require(!statistics->absmax.empty(), source_, "tensor '{}.input.absmax': missing", module);
      const bool weights_fit =
          statistics->row_weights.empty() ||
          (statistics->rows.defined() && std::ssize(statistics->row_weights) == statistics->rows.dim(0));
      require(weights_fit, source_, "tensor '{}.input.row_weights': expected one a row", module);
      const bool clip_fits = !statistics->clip_rows.defined() ||
                             (statistics->rows.defined() && statistics->clip_rows.shape() == statistics->rows.shape());
      require(clip_fits, source_, "tensor '{}.input.clip_rows': expected the shape of '{}.input.rows'", module, module);
      statistics->tokens = 1;  // abs_sum holds means
      if (statistics->abs_sum.empty()) statistics->abs_sum.resize(statistics->absmax.size());
      calibration_.inputs[module] = statistics;
    }
    calibration_.made_from.source = source_;
    calibration_.made_from.data_hash = Sha256().update(file_.bytes()).hex();
  }

  MappedFile file_;
  std::string source_;
  SafetensorsHeader header_;
  std::map<std::string, std::int64_t> inputs_;  // of the checkpoint's linear layers
  std::map<std::string, std::shared_ptr<InputStatistics>> modules_;
  Calibration calibration_;
};

}  // namespace

Calibration read_statistics(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  const Structure structure = read_structure(checkpoint);
  return StatisticsReader(path, structure.modules).read();
}

}  // namespace halftone
