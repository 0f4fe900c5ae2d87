#include "driver/quantize_folder.h"

#include <fmt/ranges.h>

#include "base/file.h"
#include "base/timer.h"
#include "base/usage_error.h"
#include "driver/check_target.h"
#include "driver/machine.h"
#include "driver/read_back.h"
#include "export/export.h"
#include "export/unquantized.h"
#include "hf/kv_cache_key.h"
#include "quant/statistics_file.h"

namespace halftone {
namespace {

ExportPlan plan_export(const Checkpoint& source, const Recipe& recipe, const QuantizationOutline& outline) {
  return {source, recipe.layout, outline.modules, {}, outline.kv, configuration_name(recipe)};
}

// Quantizes module by module, each written while the next one is computed, then reads all of it back.
QuantizationReport write_folder(const Checkpoint& source, const Recipe& recipe, const Calibration* calibration,
                                const std::filesystem::path& folder, Stream& stream, const Progress& progress) {
  const Timer writing;
  WrittenValues values;
  const QuantizationOutline outline = outline_quantization(source, recipe);
  FolderWriter writer(plan_export(source, recipe, outline), outline.changing, folder, {}, progress);
  const QuantizedSink sink{[&](const std::string& module, const LinearParts& parts) {
                             values.add_module(module, parts);
                             writer.write_module(module, parts);
                           },
                           [&](const std::string& name, const Tensor& value) {
                             values.add_tensor(name, value);
                             writer.write_tensor(name, value);
                           }};
  QuantizationReport report = quantize(source, recipe, calibration, sink, stream, progress);
  writer.finish(report.kv);
  report.seconds = writing.seconds();
  const Timer reading;
  values.check(folder, source, report.kv, stream, progress);
  if (progress) progress("hashing the source", 0, 1);
  report.source_hash = source.content_hash();
  if (progress) progress("hashing the source", 1, 1);
  report.read_back_seconds = reading.seconds();
  for (const auto& [name, info] : source.tensors()) report.input_bytes += info.shared ? 0 : info.nbytes;
  return report;
}

}  // namespace

std::filesystem::path calibration_folder(const std::filesystem::path& out) {
  return (out.filename().empty() ? out.parent_path() : out).string() + ".work";
}

Recipe recipe_of(const QuantizeJob& job) {
  Recipe recipe = load_recipe(job.configuration, job.recipe_folder);
  if (!job.vision_format.empty()) set_vision_format(recipe, job.vision_format);
  if (!job.kv_format.empty()) set_kv_format(recipe, job.kv_format);
  if (job.alpha || job.search_alpha) {
    require_usage(recipe.algorithm == Algorithm::kSmoothQuant, "quantize",
                  "alpha: only SmoothQuant has one, recipe {} uses {}", recipe.name, to_string(recipe.algorithm));
    require_usage(job.search_alpha || (*job.alpha >= 0 && *job.alpha <= 1), "quantize",
                  "alpha: expected 0 to 1 or search, found {}", job.alpha.value_or(0));
    recipe.alpha = job.search_alpha ? std::nullopt : job.alpha;
  }
  if (job.layout) {
    require(quantizes_anything(recipe) || *job.layout == Layout::kGguf, "quantize",
            "layout {}: recipe {} quantizes nothing", layout_name(*job.layout), recipe.name);
    recipe.layout = *job.layout;
    check_algorithm(recipe);
  }
  return recipe;
}

// ModelOpt's searches look at every token: so many are kept where its choices are to be found again.
constexpr std::int64_t kExactRows = 8192;

bool is_calibrated(const Recipe& recipe) { return recipe.needs_calibration() || kv_has_scales(recipe.kv_format); }

Calibration calibrate_job(const QuantizeJob& job, const Checkpoint& checkpoint, Stream& stream,
                          const Progress& progress) {
  const Recipe recipe = recipe_of(job);
  require_usage(!job.calibration.empty(), "quantize", "'{}' needs calibration data, found none (--calib)",
                configuration_name(recipe));
  CalibrateOptions run = watch_for(recipe, checkpoint, job.run);
  if (recipe.modelopt_mode) run.sample_rows = std::max(run.sample_rows, kExactRows);
  run.seed = job.data.seed;
  if (run.program.empty()) run.program = program_hash();
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
  source = untie_for(recipe, source);
  if (job.target) {
    check_for_target(*job.target, source, recipe, job.force);
  } else {
    warn_of_vision(source, recipe);
  }
  PendingFolder pending(job.out);  // now: a place that cannot be written is an error before the work
  Calibration own;
  std::filesystem::path work;
  if (!job.statistics.empty()) {
    require(job.calibration.empty(), "quantize", "expected calibration data or statistics, got both");
    own = read_statistics(job.statistics, source);
    calibration = &own;
  } else if (calibration == nullptr && (is_calibrated(recipe) || !job.calibration.empty())) {
    QuantizeJob resumable = job;
    resumable.run.work = work = calibration_folder(job.out);
    own = calibrate_job(resumable, source, stream, progress);
    calibration = &own;
  }
  const QuantizationReport report = write_folder(source, recipe, calibration, pending.path(), stream, progress);
  write_file_atomically(pending.path() / "quantization_report.json", to_json(report).dump(2) + "\n");
  pending.commit(job.replace);
  std::error_code ignored;
  if (!work.empty()) std::filesystem::remove_all(work, ignored);
  return report;
}

}  // namespace halftone
