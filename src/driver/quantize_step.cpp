#include <algorithm>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "driver/study_runner.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

// A name that every file system takes, and that no other configuration has: files of recipes are told apart by a hash.
std::string folder_name(const std::string& configuration, const Recipe& recipe) {
  std::string name = configuration_name(recipe);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '+' || c == ':'; }, '-');
  return is_shipped(recipe) ? name : fmt::format("{}-{:.8}", name, sha256_hex(configuration));
}

// How long things took is no part of what they are.
void remove_times(Json& json) {
  if (json.is_object()) json.erase("seconds");
  for (Json& child : json) {
    if (child.is_structured()) remove_times(child);
  }
}

// The formats in `field` of the layers that a quantization report says are quantized: each once, joined by ", ".
std::string formats_of(const fs::path& report, const char* field) {
  std::string formats;
  std::set<std::string> seen;
  if (!fs::exists(report)) return "none";  // the model itself
  const Json json = read_json(report);
  for (const Json& layer : get_field<Json>(json, "layers", report.string())) {
    if (get_field<std::string>(layer, "weights", report.string()) == "none") continue;
    const auto format = get_field<std::string>(layer, field, report.string());
    if (seen.insert(format).second) formats += (formats.empty() ? "" : ", ") + format;
  }
  return formats.empty() ? "none" : formats;
}

}  // namespace

void StudyRunner::prepare_work_folder() {
  const fs::path mark = work_ / "study";
  if (fs::exists(mark) && read_file(mark) == identity_) return;
  require(!fs::exists(work_) || fs::exists(mark) || fs::is_empty(work_), work_.string(),
          "expected a folder that a study made, or none; found something else");
  fs::remove_all(work_);
  fs::create_directories(work_);
  write_file_atomically(mark, identity_);
}

fs::path StudyRunner::checkpoint_of(const std::string& configuration) {
  const Recipe recipe = load_recipe(configuration, plan_.folder);
  if (recipe.layout == Layout::kAsIs && recipe.kv_format == "bf16") return plan_.model;
  const fs::path folder = work_ / folder_name(configuration, recipe);
  if (!fs::exists(folder)) quantize_configuration(configuration, folder);
  return folder;
}

void StudyRunner::quantize_configuration(const std::string& configuration, const fs::path& folder) {
  QuantizeJob job;
  job.checkpoint = plan_.model;
  job.configuration = configuration;
  job.recipe_folder = plan_.folder;
  job.out = folder;
  if (plan_.calibration) {
    job.calibration = plan_.calibration->data;
    job.data = {plan_.calibration->samples, plan_.seed};
    job.run.max_tokens = plan_.calibration->tokens;
  }
  // Only to be left early: the study's own progress runs on.
  const Progress watch = [this](std::string_view, std::int64_t, std::int64_t) { check_stop(); };
  ThreadPool pool(options_.threads);
  Stream stream{&pool, Device::kCpu};
  if (!calibration_ && plan_.calibration) {
    const Checkpoint checkpoint = Checkpoint::open(plan_.model);
    for (const std::string& name : plan_.configurations) {
      job.run = watch_for(load_recipe(name, plan_.folder), checkpoint, job.run);  // one calibration serves all
    }
    calibration_ = calibrate_job(job, checkpoint, stream, watch);
  }
  quantize_folder(job, calibration_ ? &*calibration_ : nullptr, stream, watch);
}

void StudyRunner::record_quantization(const std::string& configuration, const fs::path& folder) {
  const auto rows = store_.quantizations();
  if (std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.configuration == configuration; }))
    return;
  const fs::path path = folder / "quantization_report.json";
  if (!fs::exists(path)) return;  // the model itself
  Json report = read_json(path);
  const auto seconds = get_field_or<double>(report, "seconds", 0, path.string());
  remove_times(report);
  store_.add_quantization({configuration, folder.filename().string(), std::move(report), seconds});
  advance(cost::kQuantize);
}

void StudyRunner::record_configuration(const std::string& configuration, const EngineInfo& info) {
  const Recipe recipe = load_recipe(configuration, plan_.folder);
  const fs::path report = checkpoint_of(configuration) / "quantization_report.json";
  store_.add_configuration({.name = configuration,
                            .recipe = std::string(recipe_part(configuration)),
                            .weights = formats_of(report, "weights"),
                            .inputs = formats_of(report, "inputs"),
                            .kv_format = info.kv_format,
                            .weights_hash = info.weights_hash,
                            .numerics = info.numerics,
                            .products = info.products,
                            .instruction_set = info.instruction_set,
                            .min_pixels = info.budget.min_pixels,
                            .max_pixels = info.budget.max_pixels,
                            .kv_bytes_per_token = info.memory.kv_per_token,
                            .calibrated = is_calibrated(recipe)});
  for (const auto& [part, bytes] : info.memory.weights)
    store_.set_memory({configuration, std::string(kWeightsPrefix) + part, bytes, false});
  record_quantization(configuration, checkpoint_of(configuration));
}

}  // namespace halftone
