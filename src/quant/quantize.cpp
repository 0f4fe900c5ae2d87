#include "quant/quantize.h"

#include <algorithm>

#include "base/timer.h"
#include "formats/e4m3.h"
#include "hf/kv_cache_key.h"
#include "hf/unpack_ggml.h"
#include "model/registry.h"
#include "quant/clip.h"
#include "quant/fold.h"
#include "quant/kv_scales.h"
#include "quant/layer_error.h"
#include "quant/nf4_double.h"
#include "quant/prescale.h"
#include "quant/round_to_ggml.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

bool shares_global_scale(const LinearFormat& format) {
  return format.weights.element == Element::kE2M1 && !format.weights.mx;
}

bool is_one_tile(const QuantSpec& spec, const Shape& shape) {
  return spec.granularity == Granularity::kTile && shape.at(0) <= kTileSize && shape.at(1) <= kTileSize;
}

// The statistics of the input after its scales.
InputStatistics prescaled_statistics(const InputStatistics& statistics, const Prescaled& prescaled) {
  InputStatistics result = scaled(statistics, prescaled.scales, Scaling::kTimes);
  result.amax = prescaled.input_absmax;
  return result;
}

// ModelOpt's W4A8_AWQ: INT4 weights that engines decode to FP8, with a scale for that.
bool runs_in_fp8(const LinearFormat& format) {
  return format.weights.element == Element::kInt4 && format.inputs == InputQuant::Kind::kStaticE4M3;
}

class Quantizer {
 public:
  Quantizer(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules, const Recipe& recipe,
            const Calibration* calibration, std::int64_t layers, const QuantizedSink& sink, Stream& stream)
      : recipe_(recipe),
        calibration_(calibration),
        sink_(sink),
        stream_(stream),
        weights_(checkpoint, modules, *stream.pool),
        v_factors_(static_cast<std::size_t>(layers)) {
    const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
    for (std::size_t i = 0; i < modules.size(); ++i) formats_[modules[i].module] = formats[i];
  }

  // Groups that smoothing connects: first all smoothing, then all rounding.
  void run(std::span<const LinearGroup> groups) {
    std::vector<Smoothing> smoothings;
    prescaled_.clear();
    for (const LinearGroup& group : groups) smoothings.push_back(recipe_.prescales() ? prescale(group) : smooth(group));
    for (std::size_t g = 0; g < groups.size(); ++g) round(groups[g], smoothings[g]);
    limits_.clear();
    weights_.flush(sink_.tensor);
  }

  QuantizationReport finish() {
    report_.kv = kv_scales(recipe_.kv_format, calibration_ != nullptr ? calibration_->kv : std::vector<KvStatistics>{},
                           v_factors_);
    return std::move(report_);
  }

 private:
  const InputStatistics* statistics(const std::string& module) const {
    if (calibration_ == nullptr) return nullptr;
    const auto it = calibration_->inputs.find(module);
    return it == calibration_->inputs.end() ? nullptr : it->second.get();
  }

  Smoothing smooth(const LinearGroup& group) {
    const InputStatistics* inputs = statistics(group.readers.front());
    if (inputs == nullptr) return {};
    if (recipe_.clips() && recipe_.modelopt_mode) {
      for (const std::string& reader : group.readers) limit(reader, *inputs);
    }
    Smoothing smoothing = smooth_group(group, recipe_, formats_, *inputs, weights_, stream_);
    if (!smoothing.factors.empty() && group.writer.ends_with("v_proj")) {
      v_factors_.at(static_cast<std::size_t>(group.layer)) = smoothing.factors;
    }
    return smoothing;
  }

  // Scales inputs as ModelOpt does; what smoothing does in place of it is nothing.
  Smoothing prescale(const LinearGroup& group) {
    std::map<std::string, Prescaled> found = prescale_group(group, recipe_, formats_, *calibration_, weights_, stream_);
    for (auto& [reader, scaled] : found) {
      if (!scaled.limits.empty()) limits_[reader] = std::move(scaled.limits);
    }
    prescaled_.merge(found);
    return {};
  }

  // ModelOpt's clipping without scales.
  void limit(const std::string& reader, const InputStatistics& inputs) {
    const LinearFormat& format = formats_.at(reader);
    if (takes_input_scales(recipe_, format))
      limits_[reader] = find_limits(weights_.get(reader), format, inputs, {}, stream_);
  }

  std::span<const float> limits(const std::string& reader) const {
    const auto it = limits_.find(reader);
    return it == limits_.end() ? std::span<const float>() : it->second;
  }

  const Prescaled* prescaled(const std::string& module) const {
    const auto it = prescaled_.find(module);
    return it == prescaled_.end() ? nullptr : &it->second;
  }

  // The largest magnitude of the group's matrices that must share a global scale. ModelOpt's exporter also gives tiles one
  // scale where the group's first matrix is a single tile.
  std::optional<float> shared_amax(const LinearGroup& group) {
    const std::string& first = group.readers.front();
    const bool tile =
        recipe_.layout == Layout::kModelOpt && is_one_tile(formats_.at(first).weights, weights_.info(first).shape);
    std::optional<float> amax;
    for (const std::string& reader : group.readers) {
      const LinearFormat& format = formats_.at(reader);
      const bool shares = shares_global_scale(format) || runs_in_fp8(format) ||
                          (tile && format.weights.granularity == Granularity::kTile);
      if (!shares) continue;
      const std::span<const float> limit = shares_global_scale(format) ? limits(reader) : std::span<const float>();
      amax = std::max(amax.value_or(0), limit.empty() ? weights_.largest_magnitude(reader) : limit.front());
    }
    return amax;
  }

  void round(const LinearGroup& group, const Smoothing& smoothing) {
    const std::optional<float> amax = shared_amax(group);
    std::optional<InputStatistics> inputs;
    if (const InputStatistics* raw = statistics(group.readers.front()))
      inputs = smoothed_statistics(*raw, group, smoothing);
    for (const std::string& reader : group.readers) {
      if (const Prescaled* scaled = prescaled(reader)) inputs = prescaled_statistics(*statistics(reader), *scaled);
      const LinearFormat& format = formats_.at(reader);
      LayerReport report = describe(reader);
      if (format.quantized()) {
        const LinearParts parts = round_module(reader, format, amax, inputs);
        measure(reader, parts, inputs, report);
        sink_.module(report.module, parts);
        weights_.release(reader);
        if (!smoothing.factors.empty()) {
          report.alpha = smoothing.alpha;
          report.loss = smoothing.loss;
          report.loss_without = smoothing.loss_without;
        } else if (const Prescaled* scaled = prescaled(reader)) {
          report.alpha = scaled->alpha;
          report.loss = scaled->loss;
          report.loss_without = scaled->loss_without;
        }
      }
      report_.layers.push_back(std::move(report));
    }
  }

  LinearParts round_module(const std::string& name, const LinearFormat& format, std::optional<float> amax,
                           const std::optional<InputStatistics>& inputs) {
    const WorkingModule module = clips(name) ? weights_.get(name) : weights_.view(name);
    LinearParts parts;
    if (recipe_.layout == Layout::kGguf) {
      parts = round_to_blocks(module.weight, format.weights, module.info->stored);
    } else if (recipe_.layout == Layout::kBitsandbytes) {
      parts = round_to_nf4(module.weight, module.info->stored, *stream_.pool);
    } else {
      parts.weight = round_weight(module, format, amax, inputs);
    }
    if (module.bias_changed) parts.bias = from_f32(module.bias, module.bias_dtype);
    require(inputs.has_value() || !has_static_scale(format.inputs), recipe_.name, "no calibration of the inputs of {}",
            module.info->stored);
    const float input_amax =
        has_static_scale(format.inputs) ? observed_amax(recipe_.observer, *inputs, format.inputs, *stream_.pool) : 0;
    parts.input = static_input(format.inputs, input_amax, rounding(module));
    if (runs_in_fp8(format)) parts.fp8_weight_scale = clean_amax(amax.value(), e4m3::kMax) / e4m3::kMax;
    if (const Prescaled* scaled = prescaled(name)) {
      parts.prescaled = true;
      if (!scaled->folded) parts.input_scales = Tensor::from(scaled->scales, {std::ssize(scaled->scales)});
      parts.low_rank_a = scaled->low_rank_a;
      parts.low_rank_b = scaled->low_rank_b;
    }
    return parts;
  }

  QTensor round_weight(const WorkingModule& module, const LinearFormat& format, std::optional<float> amax,
                       const std::optional<InputStatistics>& inputs) {
    const std::string& name = module.info->module;
    Rounding rule = rounding(module);
    rule.four_over_six = format.four_over_six;
    rule.limits = limits(name);
    const bool global = shares_global_scale(format), tiles = format.weights.granularity == Granularity::kTile;
    std::optional<float> shared = global || tiles ? amax : std::nullopt;
    const float limit = shared.value_or(0);
    if (global && shared && !limits_.empty()) {
      rule.limits = {&limit, 1};
      shared.reset();
    }
    const Tensor weight = clips(name) ? clipped(module, format, rule, inputs) : module.weight;
    return round_to_nearest(weight, format.weights, rule, shared, module.info->stored, *stream_.pool);
  }

  // Queries and keys are left alone, as AutoAWQ leaves them.
  bool clips(const std::string& name) const {
    return recipe_.clips() && !recipe_.modelopt_mode && can_clip(formats_.at(name).weights) &&
           !name.ends_with("q_proj") && !name.ends_with("k_proj");
  }

  Tensor clipped(const WorkingModule& module, const LinearFormat& format, const Rounding& rule,
                 const std::optional<InputStatistics>& inputs) {
    const std::string& name = module.info->stored;
    require(inputs.has_value() && inputs->rows.defined(), recipe_.name, "no sampled inputs of {}", name);
    const std::vector<float> shares = search_clip(module.weight, format.weights, rule, inputs->rows, name, stream_);
    return clamp_groups(module.weight, format.weights, shares, *stream_.pool);
  }

  // What was smoothed here is a weight that no tool has seen, with more places than the checkpoint's dtype has: it is
  // divided in f32.
  Rounding rounding(const WorkingModule& module) const {
    const bool smoothed = module.weight_changed && !recipe_.prescales();
    return rounding_of(recipe_.layout, module.dtype, smoothed ? DType::kF32 : module.dtype);
  }

  // GGUF's blocks, and what they hold.
  LinearParts round_to_blocks(const Tensor& weight, const QuantSpec& spec, const std::string& name) {
    const GgmlType type = ggml_type_of(spec).value();
    LinearParts parts;
    parts.blocks = round_to_ggml(weight, type, name, *stream_.pool);
    parts.weight = unpack_ggml(type, parts.blocks, weight.dim(1), name, *stream_.pool);
    return parts;
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
    const Tensor weight = weights_.view(name).weight;
    const WeightError error = weight_error(parts.weight, weight, *stream_.pool);  // of what is left of a low-rank part
    report.weight_error = error.relative;
    report.sqnr_db = error.sqnr_db;
    report.bytes = parts.weight.nbytes();
    if (has_static_scale(parts.input.kind)) report.input_scale = parts.input.scale;
    if (inputs) report.input = report_input(*inputs, parts.input);
    if (inputs && inputs->rows.defined()) report.output_error = output_error(parts, weight, inputs->rows, stream_);
  }

  const Recipe& recipe_;
  const Calibration* calibration_;
  const QuantizedSink& sink_;
  Stream& stream_;
  WorkingWeights weights_;
  FormatTable formats_;
  std::map<std::string, Prescaled> prescaled_;        // of the groups at hand
  std::map<std::string, std::vector<float>> limits_;  // of these groups' readers that ModelOpt's AWQ clips
  std::vector<std::vector<float>> v_factors_;         // by layer
  QuantizationReport report_;
};

// Whether smoothing a group changes weights of one before it.
bool writes_into(const LinearGroup& group, const std::vector<LinearGroup>& chain) {
  return std::any_of(chain.begin(), chain.end(), [&](const LinearGroup& earlier) {
    return std::find(earlier.readers.begin(), earlier.readers.end(), group.writer) != earlier.readers.end();
  });
}

// Groups that must be in memory together: o_proj's smoothing divides v_proj, down_proj's divides up_proj.
std::vector<std::vector<LinearGroup>> chains_of(std::vector<LinearGroup> groups) {
  std::vector<std::vector<LinearGroup>> chains;
  for (LinearGroup& group : groups) {
    if (chains.empty() || !writes_into(group, chains.back())) chains.emplace_back();
    chains.back().push_back(std::move(group));
  }
  return chains;
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
  require(checkpoint.quantization().layout() == Layout::kAsIs, checkpoint.folder().string(),
          "expected an unquantized checkpoint, found one that is quantized already");
  const std::vector<std::string> misfits = find_misfits(recipe, read_structure(checkpoint).modules);
  require(misfits.empty(), configuration_name(recipe), "{} layers cannot take their format:\n  {}", misfits.size(),
          fmt::join(misfits, "\n  "));
}

QuantizationReport quantize(const Checkpoint& given, const Recipe& recipe, const Calibration* calibration,
                            const QuantizedSink& sink, Stream& stream, const Progress& progress) {
  const Timer timer;
  check_recipe(given, recipe);
  const Checkpoint checkpoint = untie_for(recipe, given);
  const auto [config, modules] = read_structure(checkpoint);
  check_calibration(recipe, calibration);
  Quantizer quantizer(checkpoint, modules, recipe, calibration, config.decoder.layers, sink, stream);
  const std::vector<std::vector<LinearGroup>> chains = chains_of(linear_groups(config, modules));
  for (std::size_t i = 0; i < chains.size(); ++i) {
    quantizer.run(chains[i]);
    if (progress) progress("layers", static_cast<std::int64_t>(i + 1), static_cast<std::int64_t>(chains.size()));
  }
  QuantizationReport report = quantizer.finish();
  report.configuration = configuration_name(recipe);
  report.layout = layout_name(recipe.layout);
  report.algorithm = to_string(recipe.algorithm);
  report.observer = recipe.observer.kind == Observer::Kind::kPercentile
                        ? fmt::format("percentile {}", recipe.observer.percentile)
                        : std::string(to_string(recipe.observer.kind));
  report.recipe = recipe.text;
  if (calibration != nullptr) report.calibration = calibration->made_from;
  report.seconds = timer.seconds();
  return report;
}

QuantizedCheckpoint quantize(const Checkpoint& checkpoint, const Recipe& recipe, const Calibration* calibration,
                             Stream& stream, const Progress& progress) {
  QuantizedCheckpoint result;
  const QuantizedSink sink{[&](const std::string& module, const LinearParts& parts) { result.modules[module] = parts; },
                           [&](const std::string& name, const Tensor& value) { result.tensors[name] = value; }};
  result.report = quantize(checkpoint, recipe, calibration, sink, stream, progress);
  result.kv = result.report.kv;
  return result;
}

}  // namespace halftone
