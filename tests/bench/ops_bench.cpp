// The ops at the sizes of Qwen2-VL-2B, each beside what the machine can do at most.
//   decoding (M = 1)  per cent of the read bandwidth: bytes of the packed weight over time
//   prompts           per cent of the f32 peak, whatever the format: comparable with the bf16 row
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "base/timer.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "tests/bench/machine_limits.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

using testing::LinearFormat;
using testing::LinearShape;

// --threads=N (default: all cores); --markdown: the table of docs/performance.md; --best: the shortest run instead of
// the median, for a machine that is not quiet.
struct BenchOptions {
  int threads = 0;
  Timing timing = Timing::kMedian;
  bool markdown = false;
};
BenchOptions options;

Stream& bench_stream() {
  static ThreadPool pool(options.threads);
  static Stream stream{&pool, Device::kCpu};
  return stream;
}

const MachineLimits& limits() {
  static const MachineLimits measured = measure_machine(*bench_stream().pool, options.timing);
  return measured;
}

// Times each run of `op` and counts what it does: bytes read from memory and operations, absolute and as shares.
template <typename Op>
void time_runs(benchmark::State& state, double bytes, double operations, Op op) {
  std::vector<double> seconds;
  for (auto _ : state) {
    const Timer timer;
    op();
    seconds.push_back(timer.seconds());
  }
  const double run = choose_seconds(seconds, options.timing);
  state.counters["ms"] = run * 1e3;
  state.counters["GB/s"] = bytes / run * 1e-9;
  state.counters["GFLOP/s"] = operations / run * 1e-9;
  state.counters["read_%"] = 100 * bytes / run / limits().read_bytes;
  state.counters["f32_%"] = 100 * operations / run / limits().f32_flops;
}

// A weight whose payload repeats one random block: random enough for timing, and made at once.
QTensor timing_weight(const LinearFormat& format, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kBlockRows = 16;
  QTensor block = testing::random_weight(format, std::min(rows, kBlockRows), cols, 1);
  QTensor weight = block;
  weight.shape = {rows, cols};
  const auto repeat = [&](const Tensor& from) {
    Shape shape = from.shape();
    shape[0] = rows;
    Tensor to(from.dtype(), shape);
    const std::int64_t row_bytes = from.nbytes() / from.dim(0);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::memcpy(static_cast<char*>(to.raw()) + r * row_bytes,
                  static_cast<const char*>(from.raw()) + r % from.dim(0) * row_bytes,
                  static_cast<std::size_t>(row_bytes));
    }
    return to;
  };
  weight.payload = repeat(block.payload);
  if (format.spec.granularity == Granularity::kChannel || format.spec.granularity == Granularity::kGroup) {
    weight.scales = repeat(block.scales);
  }
  return weight;
}

// As many copies as it takes that none is found in a cache when its turn comes again.
std::vector<std::shared_ptr<const PackedLinear>> packed_copies(const LinearFormat& format, const InputQuant& input,
                                                               std::int64_t n, std::int64_t k) {
  constexpr std::int64_t kBeyondCaches = std::int64_t{192} << 20;
  const QTensor weight = timing_weight(format, n, k);
  std::vector<std::shared_ptr<const PackedLinear>> copies;
  std::int64_t bytes = 0;
  do {
    copies.push_back(pack_linear(weight, {}, input, bench_stream()));
    bytes += copies.back()->nbytes();
  } while (bytes < kBeyondCaches);
  return copies;
}

void run_linear(benchmark::State& state, const LinearFormat& format, const InputQuant& input, LinearShape shape) {
  const auto copies = packed_copies(format, input, shape.n, shape.k);
  const Tensor x = testing::random_input(shape.m, shape.k, 2);
  Tensor y(DType::kF32, {shape.m, shape.n});
  std::size_t next = 0;
  const double operations = 2.0 * static_cast<double>(shape.m * shape.n * shape.k);
  time_runs(state, static_cast<double>(copies[0]->nbytes()), operations, [&] {
    linear(x, *copies[next], y, bench_stream());
    next = (next + 1) % copies.size();
  });
}

struct AttentionShape {
  std::int64_t tokens, heads, kv_heads, d, length;
  bool causal;
};

void run_attention(benchmark::State& state, const AttentionShape& shape) {
  const Tensor q =
      testing::random_input(shape.tokens * shape.heads, shape.d, 1).reshape({shape.tokens, shape.heads, shape.d});
  const Tensor memory = testing::random_input(2 * shape.kv_heads * shape.length, shape.d, 2);
  std::vector<const float*> k, v;
  for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
    k.push_back(memory.data<float>() + 2 * h * shape.length * shape.d);
    v.push_back(k.back() + shape.length * shape.d);
  }
  std::vector<AttentionRange> ranges;
  double pairs = 0;
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    ranges.push_back({0, shape.causal ? shape.length - shape.tokens + t + 1 : shape.length});
    pairs += static_cast<double>(ranges.back().end);
  }
  Tensor out(DType::kF32, q.shape());
  time_runs(state, static_cast<double>(memory.nbytes()), 4 * pairs * static_cast<double>(shape.heads * shape.d), [&] {
    attention(q, {k, v}, ranges, 0.1f, Numerics::kF32, out, bench_stream());
  });
}

void run_silu_mul(benchmark::State& state) {
  const Tensor x = testing::random_input(512, 2 * 8960, 1);
  Tensor y(DType::kF32, {512, 8960});
  time_runs(state, static_cast<double>(x.nbytes()), 0, [&] { silu_mul(x, Numerics::kF32, y, bench_stream()); });
}

void run_limits(benchmark::State& state) {
  for (auto _ : state) {
    double bytes = limits().read_bytes;
    benchmark::DoNotOptimize(bytes);
  }
  state.counters["read_GB/s"] = limits().read_bytes * 1e-9;
  state.counters["f32_GFLOP/s"] = limits().f32_flops * 1e-9;
  state.counters["int8_GOP/s"] = limits().int8_flops * 1e-9;
  state.counters["threads"] = bench_stream().pool->size();
}

void add_linear(const LinearFormat& format, const InputQuant& input, LinearShape shape) {
  const std::string name =
      fmt::format("linear/{}{}/{}x{}/M:{}", format.name, testing::input_name(input.kind), shape.n, shape.k, shape.m);
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run_linear(state, format, input, shape); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void add_attention(const char* name, const AttentionShape& shape) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { run_attention(state, shape); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

// Every row of the table: the formats that a recipe ships with the inputs that it quantizes.
void register_all() {
  using enum InputQuant::Kind;
  const std::map<std::string, InputQuant> inputs = {{"int8", {kStaticInt8, 0.02f}},
                                                    {"e4m3_tensor", {kStaticE4M3, 0.006f}},
                                                    {"e2m1_group16", {kDynamicNvfp4, 0.001f}},
                                                    {"e2m1_group32", {kStaticE4M3, 0.006f}}};
  const LinearShape layers[] = {{0, 1536, 1536}, {0, 8960, 1536}, {0, 1536, 8960}};
  benchmark::RegisterBenchmark("limits", run_limits)->Iterations(1);
  for (const LinearFormat& format : testing::weight_formats()) {
    if (format.name == "f16" || format.name == "int8_tensor" || format.name == "e4m3_channel") continue;
    for (LinearShape shape : layers) {
      for (const std::int64_t m : {1, 8, 512}) {
        shape.m = m;
        add_linear(format, {}, shape);
        if (const auto input = inputs.find(format.name); input != inputs.end())
          add_linear(format, input->second, shape);
      }
    }
    if (format.name == "bf16") add_linear(format, {}, {1, 151936, 1536});
  }
  add_attention("attention/decode_1041_keys", {1, 12, 2, 128, 1041, true});
  add_attention("attention/prefill_512", {512, 12, 2, 128, 512, true});
  add_attention("attention/vision_3996", {3996, 16, 16, 80, 3996, false});
  benchmark::RegisterBenchmark("silu_mul/512x8960", run_silu_mul)->UseRealTime()->Unit(benchmark::kMillisecond);
}

// The table of docs/performance.md.
class MarkdownReporter final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    fmt::print("{}, {} threads: {:.1f} GB/s read, {:.0f} GFLOP/s f32, {:.0f} GOP/s int8\n\n", instruction_set(),
               bench_stream().pool->size(), limits().read_bytes * 1e-9, limits().f32_flops * 1e-9,
               limits().int8_flops * 1e-9);
    fmt::print("| op | ms | GB/s | of read | GFLOP/s | of f32 peak |\n|---|---:|---:|---:|---:|---:|\n");
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (!run.counters.contains("ms")) continue;
      const auto value = [&run](const char* name) { return static_cast<double>(run.counters.at(name)); };
      fmt::print("| {} | {:.3f} | {:.1f} | {:.0f} % | {:.1f} | {:.0f} % |\n", run.run_name.function_name, value("ms"),
                 value("GB/s"), value("read_%"), value("GFLOP/s"), value("f32_%"));
    }
  }
};

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  using namespace halftone;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--best") {
      options.timing = Timing::kBest;
    } else if (argument == "--markdown") {
      options.markdown = true;
    } else if (argument.starts_with("--threads=")) {
      options.threads = std::atoi(argument.c_str() + 10);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("instruction_set", instruction_set());
  register_all();
  MarkdownReporter markdown;
  if (options.markdown) {
    benchmark::RunSpecifiedBenchmarks(&markdown);
  } else {
    benchmark::RunSpecifiedBenchmarks();
  }
  return 0;
}
