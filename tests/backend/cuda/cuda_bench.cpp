// The speed of the CUDA ops on this machine's first GPU, as JSON lines: the device, its measured roofline, then one line a
// measurement. usage: cuda_bench [WORD...]: only measurements whose name contains one of the words ("roofline" among them).
//
// Every product runs in a graph that goes through copies of its weight, together far larger than the second cache, so that
// each reads memory. A time is the median over replays of the graph, divided by its products; gb_s counts the weight, the
// scales, the input and the output once. "overlap" is programmatic dependent launch.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/event_timer.h"
#include "backend/cuda/linear.h"
#include "ops/cuda_devices.h"
#include "tests/backend/cuda/attention_bench.h"
#include "tests/backend/cuda/bench_memory.h"
#include "tests/backend/cuda/prompt_bench.h"
#include "tests/backend/cuda/step_bench.h"
#include "tests/backend/cuda/vision_bench.h"

namespace halftone {
namespace {

constexpr std::size_t kWeightBytes = std::size_t{1200} << 20;

struct Shape2 {
  std::string_view name;
  std::int64_t n, k;
};
// Of Qwen2-VL 2B and 7B.
constexpr Shape2 kShapes[] = {{"2b_qkv", 2048, 1536},   {"2b_o", 1536, 1536},        {"2b_gate_up", 17920, 1536},
                              {"2b_up", 8960, 1536},    {"2b_down", 1536, 8960},     {"7b_o", 3584, 3584},
                              {"7b_up", 18944, 3584},   {"7b_gate_up", 37888, 3584}, {"7b_down", 3584, 18944},
                              {"2b_head", 151936, 1536}};

struct Format {
  std::string_view name;
  QuantSpec spec;
  InputQuant input;
  DType scales = DType::kBF16;  // of groups
};
const Format kFormats[] = {
    {"bf16", {Element::kBF16, Granularity::kNone, 0}, {}},
    {"int8", {Element::kInt8, Granularity::kChannel, 0}, {}},
    {"int8_x_int8", {Element::kInt8, Granularity::kChannel, 0}, {InputQuant::Kind::kStaticInt8, 0.02f}},
    {"e4m3", {Element::kE4M3, Granularity::kTensor, 0}, {}},
    {"e4m3_x_e4m3", {Element::kE4M3, Granularity::kTensor, 0}, {InputQuant::Kind::kStaticE4M3, 0.02f}},
    {"int4_group128", {Element::kInt4, Granularity::kGroup, 128}, {}},
    {"int4_group64", {Element::kInt4, Granularity::kGroup, 64}, {}},
    {"nvfp4", {Element::kE2M1, Granularity::kGroup, 16}, {}, DType::kF8E4M3},
    {"mxfp4", {Element::kE2M1, Granularity::kGroup, 32, true}, {}, DType::kF8E8M0},
    {"mxfp8", {Element::kE4M3, Granularity::kGroup, 32, true}, {}, DType::kF8E8M0},
    {"e4m3_tiles", {Element::kE4M3, Granularity::kTile, 128}, {}, DType::kF32},
    {"nf4", {Element::kNF4, Granularity::kGroup, 64}, {}, DType::kF32},
};

class Bench {
 public:
  explicit Bench(double read_bytes_per_s)
      : arena_("bench", kWeightBytes + (std::size_t{64} << 20)), read_bytes_per_s_(read_bytes_per_s) {
    codes_ = static_cast<char*>(arena_.allocate(kWeightBytes));
    x_ = arena_.allocate(cuda::kDecodeTokens * 20480 * 2);
    y_ = arena_.allocate(cuda::kDecodeTokens * 160000 * 4);
    ones_ = arena_.allocate<float>(160000);
    testing::fill_with_codes(codes_, kWeightBytes);
    testing::fill_with_codes(x_, cuda::kDecodeTokens * 20480 * 2);
    const std::vector<float> ones(160000, 1.0f);
    cuda::check(cudaMemcpy(ones_, ones.data(), ones.size() * sizeof(float), cudaMemcpyHostToDevice), "bench");
  }

  void linear(const Format& format, const Shape2& shape, std::int64_t m, bool overlap) {
    const std::vector<cuda::LinearWeight> copies = weights(format, shape);
    const cuda::LinearCall call = call_of(copies[0], m);
    const std::size_t products = std::max<std::size_t>(copies.size(), 24);
    const cuda::DeviceGraph graph(stream_, [&](cuda::Launch launch) {
      launch.overlap = launch.overlap && overlap;
      for (std::size_t i = 0; i < products; ++i) cuda::linear(copies[i % copies.size()], call, launch);
    });
    const double ms = cuda::median_milliseconds(stream_, 2, 9, [&] { graph.run(stream_); });
    const double seconds = ms * 1e-3 / static_cast<double>(products);
    const auto element = static_cast<std::int64_t>(dtype_size(call.x.dtype));
    const double bytes = static_cast<double>(copies[0].nbytes + m * shape.k * element + m * shape.n * 2);
    std::printf(
        "{\"op\":\"linear\",\"format\":\"%s\",\"shape\":\"%s\",\"n\":%lld,\"k\":%lld,\"m\":%lld,\"overlap\":%d,\"us\":%.2f,\"gb_s\":%.0f,\"of_read\":%.3f}\n",
        format.name.data(), shape.name.data(), static_cast<long long>(shape.n), static_cast<long long>(shape.k),
        static_cast<long long>(m), overlap, seconds * 1e6, bytes / seconds * 1e-9, bytes / seconds / read_bytes_per_s_);
  }

 private:
  // Copies of a weight one after another in codes_, as many as there is room for, at most 240.
  std::vector<cuda::LinearWeight> weights(const Format& format, const Shape2& shape) const {
    cuda::LinearWeight weight;
    weight.spec = format.spec;
    weight.input = format.input;
    weight.rows = shape.n;
    weight.cols = shape.k;
    const bool grouped = format.spec.group > 0;
    weight.group = grouped ? format.spec.group : shape.k;
    weight.group_scale_type = format.scales;
    // whatever it points to: how codes lie follows from there being scales
    if (grouped) weight.group_scales = codes_;
    const bool tiles = bits_of(format.spec.element) == 4;
    weight.row_bytes = tiles ? shape.k / 128 * 512
                             : shape.k * static_cast<std::int64_t>(dtype_size(payload_dtype(format.spec.element)));
    const std::int64_t code_bytes = tiles ? shape.n / 8 * weight.row_bytes : shape.n * weight.row_bytes;
    const std::int64_t scale_bytes =
        grouped ? shape.n * weight.group_stride() * static_cast<std::int64_t>(dtype_size(format.scales)) : 0;
    weight.row_factors = ones_;
    if (!grouped && format.spec.granularity != Granularity::kNone) weight.row_scales = ones_;
    weight.nbytes = code_bytes + scale_bytes + shape.n * (weight.row_scales ? 8 : 4);
    std::vector<cuda::LinearWeight> copies;
    const auto bytes = cuda::DeviceArena::padded(static_cast<std::size_t>(code_bytes + scale_bytes));
    for (std::size_t at = 0; at + bytes <= kWeightBytes && copies.size() < 240; at += bytes) {
      weight.codes = codes_ + at;
      if (grouped) weight.group_scales = codes_ + at + code_bytes;
      copies.push_back(weight);
    }
    return copies;
  }

  cuda::LinearCall call_of(const cuda::LinearWeight& weight, std::int64_t m) const {
    cuda::LinearCall call;
    call.x = {x_, cuda::linear_decode_input(weight), m, weight.cols, weight.cols};
    call.y = {y_, DType::kBF16, m, weight.rows, weight.rows};
    return call;
  }

  cuda::DeviceStream stream_;
  cuda::DeviceArena arena_;
  double read_bytes_per_s_;
  char* codes_ = nullptr;
  void *x_ = nullptr, *y_ = nullptr;
  float* ones_ = nullptr;
};

void run(const std::vector<std::string>& words) {
  const auto wanted = [&](const std::string& name) {
    return words.empty() || std::any_of(words.begin(), words.end(),
                                        [&](const std::string& word) { return name.find(word) != std::string::npos; });
  };
  const CudaDevice device = list_cuda_devices().at(0);
  std::printf(
      "{\"device\":\"%s\",\"capability\":%d,\"multiprocessors\":%d,\"memory_gb\":%.1f,\"l2_mb\":%.1f,\"driver\":%d,\"runtime\":%d}\n",
      device.name.c_str(), device.compute_capability, device.multiprocessors,
      static_cast<double>(device.memory_bytes) * 1e-9, static_cast<double>(device.l2_bytes) * 1e-6,
      device.driver_version, device.runtime_version);
  const CudaRoofline roofline = measure_cuda_roofline();
  std::printf(
      "{\"op\":\"roofline\",\"copy_gb_s\":%.0f,\"read_gb_s\":%.0f,\"bf16_tflops\":%.0f,\"e4m3_tflops\":%.0f,\"int8_tops\":%.0f}\n",
      roofline.copy_bytes * 1e-9, roofline.read_bytes * 1e-9, roofline.bf16_flops * 1e-12, roofline.e4m3_flops * 1e-12,
      roofline.int8_ops * 1e-12);
  std::fflush(stdout);
  for (const testing::StepModel& model : testing::step_models()) {
    testing::bench_step(model, roofline.read_bytes, wanted);
  }
  testing::bench_newest_attention(roofline.read_bytes, wanted);
  testing::bench_vision(wanted);
  testing::bench_prompts(wanted);
  Bench bench(roofline.read_bytes);
  for (const Format& format : kFormats) {
    for (const Shape2& shape : kShapes) {
      for (const std::int64_t m : {1, 2, 4, 8, 16, 32, 64}) {
        if (!wanted(fmt::format("linear/{}/{}/{}", format.name, shape.name, m))) continue;
        if (m == 1) bench.linear(format, shape, m, false);
        bench.linear(format, shape, m, true);
      }
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  try {
    halftone::run({argv + 1, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
