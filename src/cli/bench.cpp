// halftone bench: time to first token by stage, decoding speed and memory of one checkpoint.

#include <fmt/format.h>

#include <iostream>

#include "base/number_text.h"
#include "base/usage_error.h"
#include "bench/op_profile.h"
#include "cli/command.h"
#include "cli/engine_options.h"

namespace halftone::cli {
namespace {

struct BenchFlags {
  EngineFlags engine;
  std::string llava_bench;
  std::vector<std::string> sizes;  // WIDTHxHEIGHT
  std::int64_t pictures = 4, per_request = 1;
  std::int64_t output_tokens = 64;
  BenchOptions bench;
  bool profile = false, roofline = false;
  bool json = false;
};

constexpr std::int64_t kMostPixels = 20'000;  // of a side

bool fits(std::int64_t side) { return side >= 1 && side <= kMostPixels; }

std::pair<std::int64_t, std::int64_t> parse_size(const std::string& text) {
  std::int64_t width = 0, height = 0;
  char end = 0;
  require_usage(std::sscanf(text.c_str(), "%ldx%ld%c", &width, &height, &end) == 2 && fits(width) && fits(height),
                "--synthetic", "expected WIDTHxHEIGHT of 1 to {}, found '{}'", kMostPixels, text);
  return {width, height};
}

std::vector<Workload> make_workloads(const BenchFlags& flags) {
  std::vector<Workload> workloads;
  if (!flags.llava_bench.empty()) {
    workloads.push_back(llava_bench_workload(flags.llava_bench, 0, flags.output_tokens));
  }
  auto sizes = flags.sizes;
  if (workloads.empty() && sizes.empty()) sizes.push_back("1036x756");
  for (const std::string& size : sizes) {
    const auto [width, height] = parse_size(size);
    workloads.push_back(synthetic_workload(width, height, flags.pictures, 1, flags.output_tokens, flags.per_request));
  }
  return workloads;
}

void print_row(const std::string& name, const Json& s) {
  std::cout << fmt::format("  {:<22} {:>10.2f} {:>10.2f} {:>10.2f}   [{:.2f}, {:.2f}]\n", name,
                           s["median"].get<double>(), s["p90"].get<double>(), s["p99"].get<double>(),
                           s["low"].get<double>(), s["high"].get<double>());
}

void print_workload(const std::string& name, const Json& summary, std::int64_t wanted) {
  const auto repeats = summary["ttft"]["count"].get<std::int64_t>();
  std::cout << fmt::format(
      "{}: {} of {} repeats, {:.0f} prompt tokens of which {:.0f} visual, {:.0f} output tokens (medians)\n", name,
      repeats, wanted, summary["prompt_tokens"]["median"].get<double>(),
      summary["visual_tokens"]["median"].get<double>(), summary["output_tokens"]["median"].get<double>());
  std::cout << fmt::format("  {:<22} {:>10} {:>10} {:>10}   {}\n", "ms", "median", "p90", "p99",
                           repeats < kFewestForInterval ? "range: too few repeats for an interval of the median"
                                                        : "95 % interval of the median");
  for (const Stage& stage : kStages) print_row(std::string(stage.name), summary[stage.name]);
  for (const char* name : {"ttft", "decode_per_token", "tokens_per_second"}) print_row(name, summary[name]);
}

void print_memory(const EngineInfo& info, const SessionMemory& session, bool on_gpu, std::int64_t peak) {
  const auto print = [](const std::string& name, std::int64_t bytes) {
    std::cout << fmt::format("  {:<22} {:>12}\n", name, size_text(bytes));
  };
  std::cout << "memory\n";
  for (const auto& [name, bytes] : info.memory.weights) print(name, bytes);
  print("KV cache per token", info.memory.kv_per_token);
  print(on_gpu ? "KV cache, all pages" : "KV cache", session.kv);
  print("workspace", session.workspace);
  print("peak of the process", peak);
}

void print_loading(const EngineInfo& info) {
  std::cout << fmt::format("loaded in {:.2f} s", info.load_seconds);
  if (const DeviceLoading& to_device = info.device_loading; to_device.bytes > 0) {
    std::cout << fmt::format(", of which {} to the GPU in {:.3f} s: {:.1f} GB/s", size_text(to_device.bytes),
                             to_device.seconds, static_cast<double>(to_device.bytes) / to_device.seconds * 1e-9);
  }
  std::cout << "\n";
}

Json loading_json(const EngineInfo& info) {
  Json json{{"seconds", info.load_seconds}};
  if (info.device_loading.bytes > 0) {
    json["device_bytes"] = info.device_loading.bytes;
    json["device_seconds"] = info.device_loading.seconds;
  }
  return json;
}

void print_roofline(const CudaRoofline& r) {
  std::cout << fmt::format(
      "roofline: read {:.2f} TB/s, copy {:.2f} TB/s, products bf16 {:.0f}, e4m3 {:.0f} TFLOP/s, int8 "
      "{:.0f} TOP/s\n",
      r.read_bytes * 1e-12, r.copy_bytes * 1e-12, r.bf16_flops * 1e-12, r.e4m3_flops * 1e-12, r.int8_ops * 1e-12);
}

void print_profile(const std::vector<DeviceOpTime>& ops, const CudaRoofline& roofline) {
  double all = 0;
  for (const DeviceOpTime& op : ops) all += op.seconds;
  std::cout << fmt::format("  {:<46} {:>7} {:>9} {:>7} {:>9} {:>9} {:>9}\n", "op, each timed by itself", "calls", "ms",
                           "of all", "GB/s", "TFLOP/s", "of best");
  for (const DeviceOpTime& op : ops) {
    std::cout << fmt::format("  {:<46} {:>7} {:>9.3f} {:>6.1f}% {:>9.0f} {:>9.1f} {:>8.0f}%\n", op.op, op.calls,
                             op.seconds * 1e3, 100 * op.seconds / all, op.bytes / op.seconds * 1e-9,
                             op.flops / op.seconds * 1e-12, 100 * share_of_roofline(op, roofline));
  }
}

int run_bench(const BenchFlags& flags, const Environment& environment) {
  EngineOptions options = flags.engine.options();
  options.reuse_prefix = false;
  options.device_sequences = flags.bench.batch;
  require_usage(options.device == Device::kCuda || (!flags.profile && !flags.roofline), "--profile, --roofline",
                "expected --device cuda");
  const auto workloads = make_workloads(flags);
  reset_peak_resident();
  const auto engine = Engine::load(flags.engine.model, options);
  const EngineInfo& info = engine->info();
  Json json;
  SessionMemory session;
  json["conditions"] = to_json(info);
  json["loading"] = loading_json(info);
  CudaRoofline roofline;
  if (flags.profile || flags.roofline) {
    roofline = measure_cuda_roofline();
    json["roofline"] = to_json(roofline);
    if (!flags.json) print_roofline(roofline);
  }
  for (const Workload& workload : workloads) {
    std::vector<BenchRepeat> repeats;
    const bool finished = run_workload(
        engine, workload, flags.bench, flags.engine.threads, 0,
        [&](const BenchRepeat& repeat) { repeats.push_back(repeat); }, environment.stop, environment.progress);
    if (!finished) return kInterrupted;
    for (const BenchRepeat& repeat : repeats) session = larger_of(session, repeat.memory);
    json["workloads"][workload.name] = summarize_repeats(repeats);
    if (!flags.json) print_workload(workload.name, json["workloads"][workload.name], flags.bench.repeats);
    if (!flags.profile) continue;
    const std::vector<DeviceOpTime> ops = profile_workload(engine, workload, flags.bench.batch, flags.engine.threads);
    json["workloads"][workload.name]["ops"] = to_json(ops, roofline);
    if (!flags.json) print_profile(ops, roofline);
  }
  const std::int64_t peak = peak_resident_bytes();
  for (const auto& [name, bytes] : info.memory.weights) json["memory"]["weights"][name] = bytes;
  json["memory"]["kv_per_token"] = info.memory.kv_per_token;
  json["memory"]["kv"] = session.kv;
  json["memory"]["workspace"] = session.workspace;
  json["memory"]["peak"] = peak;
  if (flags.json) {
    print_json(json);
  } else {
    print_loading(info);
    print_memory(info, session, options.device == Device::kCuda, peak);
    std::cout << fmt::format("{}, KV cache {}, numerics {}, quantized products {}, {}\n", info.checkpoint,
                             info.kv_format, info.numerics, info.products, info.instruction_set);
  }
  return kDone;
}

}  // namespace

Command declare_bench(CLI::App& parent) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* app = parent.add_subcommand("bench", "Time to first token by stage, decoding, throughput, memory");
  flags->engine.declare(*app);
  app->add_option("--llava-bench", flags->llava_bench, "Folder with questions.jsonl and images/")
      ->check(CLI::ExistingDirectory);
  app->add_option("--synthetic", flags->sizes,
                  "Synthetic pictures of WIDTHxHEIGHT; may be given several times (default 1036x756)");
  app->add_option("--pictures", flags->pictures, "How many different synthetic pictures")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app->add_option("--per-request", flags->per_request, "Synthetic pictures of one request")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app->add_option("-n,--output-tokens", flags->output_tokens, "Tokens of each answer, exactly")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app->add_option("--warmup", flags->bench.warmup, "Requests before the first that counts")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app->add_option("--repeats", flags->bench.repeats, "Requests that count")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--budget", flags->bench.budget_seconds, "Stop a workload after so many seconds; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--batch", flags->bench.batch, "Requests that are answered at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app->add_flag("--roofline", flags->roofline, "On a GPU: measure what it can do at best first");
  app->add_flag("--profile", flags->profile, "On a GPU: where the time of one request goes, op by op");
  app->add_flag("--json", flags->json, "Result as JSON");
  return {app, [flags](const Environment& environment) { return run_bench(*flags, environment); }};
}

}  // namespace halftone::cli
