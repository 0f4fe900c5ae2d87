// halftone quantize: a checkpoint in a recipe's formats, in a layout that other engines load.

#include <fmt/format.h>

#include <iostream>
#include <optional>

#include "base/number_text.h"
#include "cli/command.h"
#include "cli/progress_bar.h"
#include "cli/signals.h"
#include "driver/quantize_folder.h"
#include "hf/kv_cache_key.h"
#include "quant/vision_format.h"

namespace halftone::cli {
namespace {

const std::vector<std::string> kLayouts{"modelopt", "compressed-tensors", "awq", "gptq", "gptq_v2",
                                        "gguf",     "bitsandbytes"};

struct QuantizeFlags {
  QuantizeJob job;
  int threads = 0;
  bool json = false;
};

std::string share(const std::optional<double>& value) {
  return value ? fmt::format("{:.2f}%", 100 * *value) : std::string("-");
}

// Saturation and coverage: one line for each input that quantized layers read.
void print_inputs(const QuantizationReport& report) {
  std::optional<InputReport> last;
  for (const LayerReport& layer : report.layers) {
    if (layer.weights == "none" || !layer.input || layer.input == last) continue;
    if (!last) {
      std::cout << fmt::format("\n{:<48} {:>9} {:>9} {:>10} {:>10} {:>8} {:>8} {:>11}\n", "input of", "text", "picture",
                               "text max", "pict. max", "range", "clipped", "dead");
    }
    last = layer.input;
    const auto& [text, picture] = last->by_class;
    std::cout << fmt::format(
        "{:<48} {:>9} {:>9} {:>10.4g} {:>10} {:>8} {:>8} {:>11}\n", layer.module, text.tokens, picture.tokens,
        text.absmax, picture.tokens > 0 ? fmt::format("{:.4g}", picture.absmax) : std::string("none seen"),
        share(last->used), share(last->clipped), fmt::format("{}/{}", last->dead_channels, last->channels));
  }
  if (last) std::cout << "\n";
}

void print_report(const QuantizationReport& report, const std::string& folder) {
  std::cout << fmt::format("{:<48} {:<16} {:>9} {:>10} {:>10} {:>10}\n", "layer", "weights", "size", "weight",
                           "SQNR dB", "output");
  for (const LayerReport& layer : report.layers) {
    if (layer.weights == "none") continue;
    std::cout << fmt::format("{:<48} {:<16} {:>9} {:>9.1f}% {:>10.1f} {:>10}\n", layer.module, layer.weights,
                             size_text(layer.bytes), 100 * layer.weight_error, layer.sqnr_db,
                             layer.output_error ? fmt::format("{:.1f}%", 100 * *layer.output_error) : "-");
  }
  print_inputs(report);
  std::cout << fmt::format("{}: {}, {} of {} in linear layers\n", report.configuration, report.layout,
                           size_text(report.bytes()), size_text(report.bytes_before()));
  const double gigabytes = static_cast<double>(report.input_bytes) / 1e9;
  std::cout << fmt::format(
      "quantized and written in {:.2f} s ({:.2f} GB/s of input), read back and hashed in {:.2f} s\n{}\n",
      report.seconds, gigabytes / report.seconds, report.read_back_seconds, folder);
}

int run_quantize(const QuantizeFlags& flags, const Environment& environment) {
  ThreadPool pool(flags.threads);
  Stream stream{&pool, Device::kCpu};
  QuantizationReport report;
  try {
    report = quantize_folder(flags.job, nullptr, stream, environment.stopping_progress());
  } catch (const Interrupted&) {
    if (!std::filesystem::exists(calibration_folder(flags.job.out))) throw;
    finish_progress();
    std::cerr << "interrupted; run the same command again to go on\n";
    return kInterrupted;
  }
  if (flags.json) {
    print_json(Json(to_json(report)));
  } else {
    print_report(report, flags.job.out.string());
  }
  return kDone;
}

void read_alpha(const std::string& text, QuantizeJob& job) {
  job.search_alpha = text == "search";
  if (job.search_alpha) return;
  float alpha = -1;
  if (!CLI::detail::lexical_cast(text, alpha) || !(alpha >= 0 && alpha <= 1)) {
    throw CLI::ValidationError("--alpha", fmt::format("expected 0 to 1 or search, found '{}'", text));
  }
  job.alpha = alpha;
}

}  // namespace

Command declare_quantize(CLI::App& parent) {
  auto flags = std::make_shared<QuantizeFlags>();
  const std::shared_ptr<QuantizeJob> job(flags, &flags->job);
  const std::vector<std::string> kv_formats(kKvFormats.begin(), kKvFormats.end());
  const std::vector<std::string> vision_formats(kVisionFormats.begin(), kVisionFormats.end());
  CLI::App* app = parent.add_subcommand(
      "quantize", "Write a checkpoint in a recipe's formats, verified, with the error of every layer");
  app->add_option("model", job->checkpoint, "Checkpoint folder")->required()->check(CLI::ExistingDirectory);
  app->add_option("-r,--recipe", job->configuration,
                  fmt::format("Recipe: {} or a YAML file; \"+vision:FORMAT\" and \"+kv:FORMAT\" may follow",
                              fmt::join(shipped_recipes(), ", ")))
      ->required();
  app->add_option_function<std::string>(
         "--layout", [job](const std::string& name) { job->layout = layout_from_name(name, "--layout"); },
         "Layout of the folder, in place of the recipe's; gguf also takes recipe bf16")
      ->check(CLI::IsMember(kLayouts));
  app->add_option_function<std::string>(
         "--target", [job](const std::string& name) { job->target = target_from_name(name); },
         "Loader that must take the folder: what it refuses is an error before anything is written")
      ->check(CLI::IsMember(target_names()));
  app->add_flag("--force", job->force, "Write what the target refuses");
  app->add_flag("--requantize", job->requantize, "Take a checkpoint that is quantized already, by its decoded weights");
  app->add_option("--kv", job->kv_format, "Format of the KV cache, in place of the recipe's")
      ->check(CLI::IsMember(kv_formats));
  app->add_option("--vision", job->vision_format,
                  "Format of the vision tower's blocks, in place of the recipe's: weights by output, inputs by token")
      ->check(CLI::IsMember(vision_formats));
  app->add_option_function<std::string>(
      "--alpha", [job](const std::string& text) { read_alpha(text, *job); },
      "SmoothQuant's exponent, in place of the recipe's: 0 weights only, 1 inputs only, search finds it layer by layer");
  app->add_option("-c,--calib", job->calibration, "Calibration data: LLaVA or COCO JSON, a folder of pictures, or text")
      ->check(CLI::ExistingPath);
  app->add_option("--statistics", job->statistics, "Statistics file in place of calibration data (docs/statistics.md)")
      ->check(CLI::ExistingFile)
      ->excludes("--calib");
  app->add_option("--samples", job->data.count, "Calibration samples; 0 for all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--max-tokens", job->run.max_tokens, "Longest calibration sample")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--seed", job->data.seed, "Seed of the samples' order")->capture_default_str();
  app->add_option("-o,--out", job->out, "Folder to write; a calibration is kept in OUT.work until then, and resumed")
      ->required();
  app->add_flag("--replace", job->replace, "Replace the folder if it is there");
  app->add_option("--threads", flags->threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  app->add_flag("--json", flags->json, "The report as JSON");
  return {app, [flags](const Environment& environment) { return run_quantize(*flags, environment); }};
}

}  // namespace halftone::cli
