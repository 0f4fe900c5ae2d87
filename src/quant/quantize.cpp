#include "quant/quantize.h"

#include <algorithm>

#include "base/timer.h"
#include "hf/kv_cache_key.h"
#include "model/registry.h"
#include "quant/fold.h"
#include "quant/kv_scales.h"
#include "quant/layer_error.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

bool shares_global_scale(const LinearFormat& format) {
  return format.weights.element == Element::kE2M1 && !format.weights.mx;
}

class Quantizer {
 public:
  Quantizer(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules, const Recipe& recipe,
            const Calibration* calibration, std::int64_t layers, Stream& stream)
      : recipe_(recipe),
        calibration_(calibration),
        stream_(stream),
        weights_(checkpoint, modules),
        v_factors_(static_cast<std::size_t>(layers)) {
    const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
    for (std::size_t i = 0; i < modules.size(); ++i) formats_[modules[i].module] = formats[i];
  }

  // All groups of one decoder layer, or one group outside: first all smoothing, then all rounding.
  void run(std::span<const LinearGroup> groups) {
    std::vector<Smoothing> smoothings;
    for (const LinearGroup& group : groups) smoothings.push_back(smooth(group));
    for (std::size_t g = 0; g < groups.size(); ++g) round(groups[g], smoothings[g]);
    weights_.flush(result_.modules, result_.tensors);
  }

  QuantizedCheckpoint finish() {
    result_.kv = kv_scales(recipe_.kv_format, calibration_ != nullptr ? calibration_->kv : std::vector<KvStatistics>{},
                           v_factors_);
    return std::move(result_);
  }

 private:
  const InputStatistics* statistics(const std::string& module) const {
    if (calibration_ == nullptr) return nullptr;
    const auto it = calibration_->inputs.find(module);
    return it == calibration_->inputs.end() ? nullptr : it->second.get();
  }

  Smoothing smooth(const LinearGroup& group) {
    const InputStatistics* inputs = statistics(group.readers.front());
    if (recipe_.algorithm == Algorithm::kRoundToNearest || inputs == nullptr) return {};
    Smoothing smoothing = smooth_group(group, recipe_, formats_, *inputs, weights_, stream_);
    if (!smoothing.factors.empty() && group.writer.ends_with("v_proj")) {
      v_factors_.at(static_cast<std::size_t>(group.layer)) = smoothing.factors;
    }
    return smoothing;
  }

  // The largest magnitude of the group's matrices that must share a global scale.
  std::optional<float> shared_amax(const LinearGroup& group) {
    std::optional<float> amax;
    for (const std::string& reader : group.readers) {
      if (!shares_global_scale(formats_.at(reader))) continue;
      amax = std::max(amax.value_or(0), largest_magnitude(weights_.get(reader).weight, reader, *stream_.pool));
    }
    return amax;
  }

  void round(const LinearGroup& group, const Smoothing& smoothing) {
    const std::optional<float> amax = shared_amax(group);
    std::optional<InputStatistics> inputs;
    if (const InputStatistics* raw = statistics(group.readers.front()))
      inputs = smoothed_statistics(*raw, group, smoothing);
    for (const std::string& reader : group.readers) {
      const LinearFormat& format = formats_.at(reader);
      LayerReport report = describe(reader);
      if (format.quantized()) {
        const LinearParts& parts = round_module(reader, format, amax, inputs);
        measure(reader, parts, inputs, report);
        if (!smoothing.factors.empty()) {
          report.alpha = smoothing.alpha;
          report.awq_loss = smoothing.loss;
          report.awq_loss_without = smoothing.loss_without;
        }
      }
      result_.report.layers.push_back(std::move(report));
    }
  }

  const LinearParts& round_module(const std::string& name, const LinearFormat& format, std::optional<float> amax,
                                  const std::optional<InputStatistics>& inputs) {
    const WorkingModule& module = weights_.get(name);
    LinearParts parts;
    parts.weight =
        round_to_nearest(module.weight, format.weights, module.dtype, shares_global_scale(format) ? amax : std::nullopt,
                         module.info->stored, *stream_.pool);
    if (module.bias_changed) parts.bias = from_f32(module.bias, module.bias_dtype);
    parts.input.kind = format.inputs;
    if (has_static_scale(format.inputs)) {
      require(inputs.has_value(), recipe_.name, "no calibration of the inputs of {}", module.info->stored);
      parts.input = static_input(format.inputs, inputs->tensor_absmax(), module.dtype);
    }
    return result_.modules[module.info->stored] = std::move(parts);
  }

  LayerReport describe(const std::string& name) {
    const ModuleInfo& info = weights_.info(name);
    LayerReport report;
    report.module = info.stored;
    report.outputs = info.shape.at(0);
    report.inputs = info.shape.at(1);
    report.weights = weight_format_name(formats_.at(name).weights);
    report.input_format = input_format_name(formats_.at(name).inputs);
    if (!info.tied) report.bytes = report.bytes_before = weights_.stored_bytes(name);
    return report;
  }

  void measure(const std::string& name, const LinearParts& parts, const std::optional<InputStatistics>& inputs,
               LayerReport& report) {
    const Tensor& weight = weights_.get(name).weight;
    const WeightError error = weight_error(parts.weight, weight, *stream_.pool);
    report.weight_error = error.relative;
    report.sqnr_db = error.sqnr_db;
    report.bytes = parts.weight.nbytes();
    if (has_static_scale(parts.input.kind)) report.input_scale = parts.input.scale;
    if (inputs && inputs->rows.defined()) report.output_error = output_error(parts, weight, inputs->rows, stream_);
  }

  const Recipe& recipe_;
  const Calibration* calibration_;
  Stream& stream_;
  WorkingWeights weights_;
  FormatTable formats_;
  std::vector<std::vector<float>> v_factors_;  // by layer
  QuantizedCheckpoint result_;
};

// Groups of one decoder layer stay together, because smoothing reaches from one to the next.
std::vector<std::vector<LinearGroup>> by_layer(std::vector<LinearGroup> groups) {
  std::vector<std::vector<LinearGroup>> lists;
  for (LinearGroup& group : groups) {
    const bool next = lists.empty() || group.layer < 0 || lists.back().front().layer != group.layer;
    if (next) lists.emplace_back();
    lists.back().push_back(std::move(group));
  }
  return lists;
}

struct Structure {
  ModelConfig config;
  std::vector<ModuleInfo> modules;
};

Structure read_structure(const Checkpoint& checkpoint) {
  const Architecture& architecture = find_architecture(checkpoint);
  Structure structure{architecture.read_config(checkpoint), {}};
  structure.modules = resolve_modules(architecture.table(structure.config), checkpoint);
  return structure;
}

void check_structure(const Checkpoint& checkpoint, const Recipe& recipe, std::span<const ModuleInfo> modules) {
  require(checkpoint.quantization().layout() == Layout::kAsIs, checkpoint.folder().string(),
          "expected an unquantized checkpoint, found one that is quantized already");
  const std::vector<std::string> misfits = find_misfits(recipe, modules);
  require(misfits.empty(), configuration_name(recipe), "{} layers cannot take their format:\n  {}", misfits.size(),
          fmt::join(misfits, "\n  "));
}

void check_calibration(const Recipe& recipe, const Calibration* calibration) {
  require(calibration != nullptr || !recipe.needs_calibration(), configuration_name(recipe),
          "this recipe needs calibration data");
  require(calibration != nullptr || !kv_has_scales(recipe.kv_format), configuration_name(recipe),
          "the KV format {} needs calibration data", recipe.kv_format);
}

}  // namespace

std::vector<std::string> find_misfits(const Recipe& recipe, std::span<const ModuleInfo> modules) {
  const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
  std::vector<std::string> misfits;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const auto reason = why_not(modules[i].shape, formats[i], recipe.layout);
    if (reason) misfits.push_back(fmt::format("{}: {}", modules[i].module, *reason));
  }
  return misfits;
}

void check_recipe(const Checkpoint& checkpoint, const Recipe& recipe) {
  check_structure(checkpoint, recipe, read_structure(checkpoint).modules);
}

QuantizedCheckpoint quantize(const Checkpoint& checkpoint, const Recipe& recipe, const Calibration* calibration,
                             Stream& stream, const Progress& progress) {
  const Timer timer;
  const auto [config, modules] = read_structure(checkpoint);
  check_structure(checkpoint, recipe, modules);
  check_calibration(recipe, calibration);
  Quantizer quantizer(checkpoint, modules, recipe, calibration, config.decoder.layers, stream);
  const std::vector<std::vector<LinearGroup>> lists = by_layer(linear_groups(config, modules));
  for (std::size_t i = 0; i < lists.size(); ++i) {
    quantizer.run(lists[i]);
    if (progress) progress("layers", static_cast<std::int64_t>(i + 1), static_cast<std::int64_t>(lists.size()));
  }
  QuantizedCheckpoint result = quantizer.finish();
  result.report.configuration = configuration_name(recipe);
  result.report.layout = layout_name(recipe.layout);
  result.report.algorithm = to_string(recipe.algorithm);
  result.report.recipe = recipe.text;
  result.report.source_hash = checkpoint.content_hash();
  result.report.kv = result.kv;
  if (calibration != nullptr) result.report.calibration = calibration->made_from;
  result.report.seconds = timer.seconds();
  return result;
}

}  // namespace halftone
