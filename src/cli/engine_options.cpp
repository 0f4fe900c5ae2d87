#include "cli/engine_options.h"

#include "base/usage_error.h"
#include "hf/kv_cache_key.h"
#include "ops/numerics_name.h"

namespace halftone::cli {

void EngineFlags::declare(CLI::App& app) {
  app.add_option("model", model, "Checkpoint folder")->required()->check(CLI::ExistingDirectory);
  app.add_option("--device", device, "Where the model runs")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--numerics", numerics,
                 "Rounding: f32 (none) or bf16 (of activations, as on a GPU); default: f32 on the CPU, bf16 on a GPU")
      ->check(CLI::IsMember(std::vector<std::string>(kNumericsNames.begin(), kNumericsNames.end())));
  app.add_option("--kv", kv, "Format of the KV cache (default: what the checkpoint says)")
      ->check(CLI::IsMember(std::vector<std::string>(kKvFormats.begin(), kKvFormats.end())));
  app.add_option("--kv-tokens", kv_tokens,
                 "On a GPU: tokens that the KV cache holds, of all prompts of a batch together")
      ->check(CLI::PositiveNumber);
  app.add_option("--min-pixels", min_pixels, "Smallest picture area (default: the checkpoint's)")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-pixels", max_pixels, "Largest picture area (default: the checkpoint's)")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
}

EngineOptions EngineFlags::options() const {
  EngineOptions options;
  options.device = device == "cuda" ? Device::kCuda : Device::kCpu;
  options.numerics = numerics.empty() ? (options.device == Device::kCuda ? Numerics::kBF16 : Numerics::kF32)
                                      : find_numerics(numerics).value();
  options.device_kv_tokens = kv_tokens;
  options.device_sequences = 1;
  options.kv_format = kv;
  options.threads = threads;
  if (min_pixels > 0 || max_pixels > 0) {
    options.budget = Qwen2VlProcessor::load(model).budget;
    if (min_pixels > 0) options.budget->min_pixels = min_pixels;
    if (max_pixels > 0) options.budget->max_pixels = max_pixels;
    require_usage(options.budget->min_pixels <= options.budget->max_pixels, "--min-pixels",
                  "expected at most --max-pixels, {}, found {}", options.budget->max_pixels,
                  options.budget->min_pixels);
  }
  return options;
}

}  // namespace halftone::cli
