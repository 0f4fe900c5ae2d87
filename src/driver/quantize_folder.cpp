#include "driver/quantize_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "base/usage_error.h"
#include "driver/check_target.h"
#include "export/export.h"
#include "export/unquantized.h"
#include "hf/kv_cache_key.h"
#include "quant/statistics_file.h"

namespace halftone {
namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  return a.dtype() == b.dtype() && a.numel() == b.numel() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.nbytes())) == 0;
}

// The same numbers: a GGUF file holds vectors as F32.
bool same_values(const Tensor& found, const Tensor& wanted) {
  if (found.defined() && wanted.defined() && found.dtype() == DType::kF32) return same_bytes(found, to_f32(wanted));
  return same_bytes(found, wanted);
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

void check_module(const Checkpoint& written, const std::string& module, const LinearParts& wanted) {
  const bool renamed = written.quantization().layout() == Layout::kGguf;
  const std::string weight = renamed ? name_in(written, module + ".weight") : module + ".weight";
  const LinearParts found = load_linear(written, weight.substr(0, weight.rfind('.')));
  const auto check = [&](bool equal, std::string_view what) {
    require(equal, written.folder().string(), "tensor '{}': the {} read back is not the one that was written", module,
            what);
  };
  check(stated_spec(found.weight) == stated_spec(wanted.weight) && found.weight.shape == wanted.weight.shape, "format");
  check(same_bytes(found.weight.payload, wanted.weight.payload), "payload");
  check(same_bytes(found.weight.scales, wanted.weight.scales), "scale");
  check(same_bytes(stated_zeros(found.weight), stated_zeros(wanted.weight)), "zero point");
  check(same_bytes(found.weight.offsets, wanted.weight.offsets), "offset");
  check(found.weight.global_scale == wanted.weight.global_scale &&
            found.weight.inverse_global == wanted.weight.inverse_global,
        "global scale");
  check(same_bytes(found.input_scales, wanted.input_scales), "scale of the inputs");
  check(same_bytes(found.low_rank_a, wanted.low_rank_a) && same_bytes(found.low_rank_b, wanted.low_rank_b),
        "low-rank part");
  check(found.input == wanted.input, "input scale");
  if (wanted.bias.defined()) check(same_values(found.bias, wanted.bias), "bias");
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

// Compares the folder with what it was to hold.
void verify(const std::filesystem::path& folder, const QuantizedCheckpoint& quantized, const Checkpoint& source) {
  const Checkpoint written = Checkpoint::open(folder);
  for (const auto& [module, parts] : quantized.modules) check_module(written, module, parts);
  for (const auto& [name, info] : source.tensors()) {
    if (quantized.modules.contains(name.substr(0, name.rfind('.')))) continue;
    const auto changed = quantized.tensors.find(name);
    const Tensor wanted = changed == quantized.tensors.end() ? source.tensor(name) : changed->second;
    require(same_values(written.tensor(name_in(written, name)), wanted), folder.string(),
            "tensor '{}': what is read back is not what was written", name);
  }
  check_kv(written, quantized.kv);
}

ExportPlan plan_export(const Checkpoint& source, const Recipe& recipe, const QuantizedCheckpoint& quantized) {
  ExportPlan plan{source, recipe.layout, {}, quantized.tensors, quantized.kv, configuration_name(recipe)};
  for (const auto& [module, parts] : quantized.modules) {
    plan.modules[module] = {parts.weight,     parts.input,      parts.bias,      parts.input_scales,
                            parts.low_rank_a, parts.low_rank_b, parts.prescaled, parts.fp8_weight_scale,
                            parts.blocks};
  }
  return plan;
}

}  // namespace

Recipe recipe_of(const QuantizeJob& job) {
  Recipe recipe = load_recipe(job.configuration, job.recipe_folder);
  if (!job.vision_format.empty()) set_vision_format(recipe, job.vision_format);
  if (!job.kv_format.empty()) set_kv_format(recipe, job.kv_format);
  if (job.alpha) {
    require_usage(recipe.algorithm == Algorithm::kSmoothQuant, "quantize",
                  "alpha: only SmoothQuant has one, recipe {} uses {}", recipe.name, to_string(recipe.algorithm));
    require_usage(*job.alpha >= 0 && *job.alpha <= 1, "quantize", "alpha: expected 0 to 1, found {}", *job.alpha);
    recipe.alpha = *job.alpha;
  }
  if (job.layout) {
    const bool quantizes =
        std::any_of(recipe.rules.begin(), recipe.rules.end(), [](const Rule& rule) { return rule.format.quantized(); });
    require(quantizes || *job.layout == Layout::kGguf, "quantize", "layout {}: recipe {} quantizes nothing",
            layout_name(*job.layout), recipe.name);
    recipe.layout = *job.layout;
  }
  return recipe;
}

bool is_calibrated(const Recipe& recipe) { return recipe.needs_calibration() || kv_has_scales(recipe.kv_format); }

Calibration calibrate_job(const QuantizeJob& job, const Checkpoint& checkpoint, Stream& stream,
                          const Progress& progress) {
  require_usage(!job.calibration.empty(), "quantize", "'{}' needs calibration data, found none (--calib)",
                job.configuration);
  CalibrateOptions run = watch_for(recipe_of(job), checkpoint, job.run);
  run.seed = job.data.seed;
  return calibrate(checkpoint, read_calibration(job.calibration, job.data), run, stream, progress);
}

namespace {

// Before hours of work: the folder must be free, or a checkpoint that may be replaced, and not the source itself.
void check_output(const QuantizeJob& job) {
  require(!job.out.empty(), "quantize", "expected a folder to write (--out), found none");
  if (!std::filesystem::exists(job.out)) return;
  const std::string out = job.out.string();
  require(job.replace, "quantize", "{}: exists already", out);
  require(!std::filesystem::equivalent(job.out, job.checkpoint), "quantize",
          "{}: expected another folder than the checkpoint that is quantized", out);
  require(std::filesystem::exists(job.out / "config.json"), "quantize",
          "{}: expected a checkpoint to replace, found no config.json in it", out);
}

// For a checkpoint that is quantized: a temporary folder with its decoded weights, opened as `source`.
std::unique_ptr<PendingFolder> unquantized_source(const QuantizeJob& job, Checkpoint& source,
                                                  const Progress& progress) {
  const Layout layout = source.quantization().layout();
  if (layout == Layout::kAsIs) return nullptr;
  require(
      job.requantize, source.folder().string(),
      "expected an unquantized checkpoint, found one that is quantized already (layout {}); --requantize starts from "
      "its decoded weights",
      layout_name(layout));
  auto folder = std::make_unique<PendingFolder>(job.out.string() + ".unquantized");
  write_unquantized(source, folder->path(), progress);
  source = Checkpoint::open(folder->path());
  return folder;
}

}  // namespace

QuantizationReport quantize_folder(const QuantizeJob& job, const Calibration* calibration, Stream& stream,
                                   const Progress& progress) {
  const Recipe recipe = recipe_of(job);
  check_output(job);
  Checkpoint source = Checkpoint::open(job.checkpoint);
  const std::unique_ptr<PendingFolder> plain = unquantized_source(job, source, progress);
  check_recipe(source, recipe);
  if (job.target) {
    check_for_target(*job.target, source, recipe, job.force);
  } else {
    warn_of_vision(source, recipe);
  }
  PendingFolder pending(job.out);  // now: a place that cannot be written is an error before the work
  Calibration own;
  if (!job.statistics.empty()) {
    require(job.calibration.empty(), "quantize", "expected calibration data or statistics, got both");
    own = read_statistics(job.statistics, source);
    calibration = &own;
  } else if (calibration == nullptr && (is_calibrated(recipe) || !job.calibration.empty())) {
    own = calibrate_job(job, source, stream, progress);
    calibration = &own;
  }
  const QuantizedCheckpoint quantized = quantize(source, recipe, calibration, stream, progress);
  ExportOptions options;
  options.replace = true;  // the pending folder itself
  export_checkpoint(plan_export(source, recipe, quantized), pending.path(), options, progress);
  verify(pending.path(), quantized, source);
  write_file_atomically(pending.path() / "quantization_report.json", to_json(quantized.report).dump(2) + "\n");
  pending.commit(job.replace);
  return quantized.report;
}

}  // namespace halftone
