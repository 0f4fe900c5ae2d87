#include "tests/backend/cuda/vision_bench.h"

#include <cstdio>
#include <numeric>

#include "backend/cuda/attention_prompt.h"
#include "backend/cuda/event_timer.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/vision_ops.h"
#include "backend/cuda/vision_tower.h"
#include "tests/backend/cuda/bench_memory.h"
#include "tests/backend/cuda/vision_source.h"

namespace halftone::testing {
namespace {

constexpr std::int64_t kPatches = 3996;  // of a picture of 1036 x 756
constexpr int kRepeats = 10;             // of an op in one graph

class VisionBench {
 public:
  VisionBench() : arena_("bench", std::size_t{4} << 30) {}

  // Milliseconds of one run of `work`.
  double time(const std::function<void(const cuda::Launch&)>& work) {
    const cuda::DeviceGraph graph(stream_, [&](const cuda::Launch& launch) {
      for (int i = 0; i < kRepeats; ++i) work(launch);
    });
    return cuda::median_milliseconds(stream_, 3, 15, [&] { graph.run(stream_); }) / kRepeats;
  }

  void print(const std::string& name, double ms, double operations) const {
    std::printf("{\"op\":\"%s\",\"us\":%.1f,\"tflops\":%.0f}\n", name.c_str(), ms * 1e3, operations / ms * 1e-9);
    std::fflush(stdout);
  }

  cuda::DeviceMatrix matrix(std::int64_t rows, std::int64_t cols, DType dtype = DType::kBF16) {
    const auto bytes = static_cast<std::size_t>(rows * cols) * dtype_size(dtype);
    void* data = arena_.allocate(bytes);
    fill_with_codes(data, bytes);
    return {data, dtype, rows, cols, cols};
  }

  // Numbers on both sides of zero.
  cuda::DeviceMatrix random_matrix(std::int64_t rows, std::int64_t cols) {
    const Tensor values = from_f32(random_input(rows, cols, 1), DType::kBF16);
    void* data = arena_.allocate(static_cast<std::size_t>(values.nbytes()));
    cuda::check(cudaMemcpy(data, values.raw(), static_cast<std::size_t>(values.nbytes()), cudaMemcpyHostToDevice),
                "bench");
    return {data, DType::kBF16, rows, cols, cols};
  }

  std::int32_t* integers(const std::vector<std::int32_t>& values) {
    auto* data = arena_.allocate<std::int32_t>(values.size());
    cuda::check(cudaMemcpy(data, values.data(), values.size() * 4, cudaMemcpyHostToDevice), "bench");
    return data;
  }

  void frames(const std::string& name, const std::vector<std::int32_t>& ends, std::int64_t heads, std::int64_t d) {
    arena_.reset();
    const cuda::DeviceMatrix qkv = random_matrix(ends.back(), 3 * heads * d), out = matrix(ends.back(), heads * d);
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    const std::int32_t* device_ends = integers(ends);
    void* workspace = arena_.allocate(cuda::attention_prompt_workspace(ends.back(), heads, d));
    double pairs = 0;
    for (std::int32_t begin = 0; const std::int32_t end : ends) {
      pairs += static_cast<double>(end - begin) * (end - begin);
      begin = end;
    }
    for_rows([&](const cuda::AttentionRow& row) {
      const double ms = time([&](const cuda::Launch& launch) {
        cuda::attention_frames({qkv, device_ends, static_cast<std::int64_t>(ends.size()), scale, heads, out, workspace},
                               launch, row.name);
      });
      print(name + "/" + std::string(row.name), ms, 4 * pairs * static_cast<double>(heads * d));
    });
  }

  void prompt(const std::string& name, std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads) {
    arena_.reset();
    constexpr std::int64_t kHeadDim = 128;
    const std::int64_t pages = (tokens + cuda::kPageTokens - 1) / cuda::kPageTokens;
    const cuda::DeviceMatrix q = random_matrix(tokens, heads * kHeadDim), out = matrix(tokens, heads * kHeadDim);
    const cuda::DeviceMatrix k = random_matrix(pages * cuda::kPageTokens, kv_heads * kHeadDim),
                             v = random_matrix(pages * cuda::kPageTokens, kv_heads * kHeadDim);
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(pages));
    std::iota(numbers.begin(), numbers.end(), 0);
    void* workspace = arena_.allocate(cuda::attention_prompt_workspace(tokens, kv_heads, kHeadDim));
    const cuda::PagedKv kv{static_cast<std::uint16_t*>(k.data),
                           static_cast<std::uint16_t*>(v.data),
                           integers(numbers),
                           static_cast<int>(pages),
                           static_cast<int>(kv_heads),
                           static_cast<int>(kHeadDim)};
    for_rows([&](const cuda::AttentionRow& row) {
      const double ms = time([&](const cuda::Launch& launch) {
        cuda::attention_prompt({q, 0, 0, 1.0f / std::sqrt(128.0f), heads, out, workspace}, kv, launch, row.name);
      });
      print(name + "/" + std::string(row.name), ms, 2 * static_cast<double>(tokens * (tokens + 1) * heads * kHeadDim));
    });
  }

  void tower_ops() {
    arena_.reset();
    const std::int64_t width = 1280, mlp = kVision2B.mlp_width;
    const cuda::DeviceMatrix x = random_matrix(kPatches, width), normed = matrix(kPatches, width),
                             qkv = random_matrix(kPatches, 3 * width), inner = random_matrix(kPatches, mlp),
                             pixels = matrix(kPatches, kVision2B.columns, DType::kF32),
                             rounded = matrix(kPatches, kVision2B.columns);
    const auto* floats = static_cast<const float*>(matrix(kPatches, 40, DType::kF32).data);
    cuda::DeviceMatrix turned = qkv;
    turned.cols = 2 * width;
    const auto op = [&](const char* name, const std::function<void(const cuda::Launch&)>& work) {
      print(std::string("vision/") + name, time(work), 0);
    };
    op("round_rows", [&](const cuda::Launch& launch) { cuda::round_rows(pixels, rounded, launch); });
    op("layer_norm", [&](const cuda::Launch& launch) {
      cuda::layer_norm({x, normed, floats, floats, 1e-6f, normed}, launch);
    });
    op("rotate_heads", [&](const cuda::Launch& launch) { cuda::rotate_heads(turned, 32, floats, floats, launch); });
    op("quick_gelu", [&](const cuda::Launch& launch) { cuda::quick_gelu(inner, launch); });
    op("gelu_erf", [&](const cuda::Launch& launch) {
      cuda::gelu_erf({inner.data, DType::kBF16, kPatches / 4, 4 * width, 4 * width}, launch);
    });
    product("patch_embed", rounded, width, x);
    product("qkv", x, 3 * width, qkv);
    product("proj", normed, width, x);
    product("fc1", x, mlp, inner);
    product("fc2", inner, width, x);
    product("merger_first", {inner.data, DType::kBF16, kPatches / 4, 4 * width, 4 * width}, 4 * width,
            {qkv.data, DType::kBF16, kPatches / 4, 4 * width, 4 * width});
    product("merger_second", {inner.data, DType::kBF16, kPatches / 4, 4 * width, 4 * width}, kVision2B.output,
            {qkv.data, DType::kBF16, kPatches / 4, kVision2B.output, kVision2B.output});
  }

  void tower() {
    arena_.reset();
    const DeviceVisionSource source = random_vision(kVision2B, 1);
    cuda::DeviceArena weights = cuda::DeviceArena::growing("bench", kSlab);
    cuda::DeviceArena workspace = cuda::DeviceArena::growing("bench", kSlab);
    const cuda::VisionTower tower(source, kPatches, weights, uploader_);
    const cuda::VisionTower::Buffers buffers = tower.make_buffers(workspace);
    const VisionPatches patches(source, {kPatches});
    const cuda::DeviceMatrix out = matrix(kPatches / 4, kVision2B.output);
    const cuda::VisionInput input{kPatches, patches.pixels.data<float>(), patches.cos.data<float>(),
                                  patches.sin.data<float>(), patches.frame_ends};
    print("vision/upload", cuda::median_milliseconds(stream_, 2, 9, [&] { tower.upload(input, buffers, stream_); }), 0);
    const cuda::DeviceGraph graph(stream_,
                                  [&](const cuda::Launch& launch) { tower.run(kPatches, 1, buffers, out, launch); });
    const double ms = cuda::median_milliseconds(stream_, 3, 21, [&] { graph.run(stream_); });
    print("vision/tower", ms, operations(source));
    // as sessions run it
    const auto run = [&] { tower.run(kPatches, 1, buffers, out, stream_.launch()); };
    print("vision/tower_launches", cuda::median_milliseconds(stream_, 3, 21, run), operations(source));
  }

 private:
  void product(const char* name, const cuda::DeviceMatrix& x, std::int64_t rows, const cuda::DeviceMatrix& y) {
    const DeviceProductsSource source = random_product(rows, x.cols, 1, true);
    const LinearSource linear{source[0].weights, source[0].biases, {}};
    cuda::DeviceArena arena = cuda::DeviceArena::growing("bench", cuda::DeviceArena::kAlignment);
    const cuda::LinearWeight weight = cuda::upload_linear(linear, arena, uploader_);
    cuda::LinearCall call;
    call.x = x;
    call.y = y;
    call.workspace_bytes = std::size_t{32} << 20;
    call.workspace = arena_.allocate(call.workspace_bytes);
    const double ms = time([&](const cuda::Launch& launch) { cuda::linear(weight, call, launch); });
    print(std::string("vision/") + name, ms, 2 * static_cast<double>(x.rows * x.cols * rows));
  }

  static void for_rows(const std::function<void(const cuda::AttentionRow&)>& measure) {
    for (const cuda::AttentionRow& row : cuda::attention_rows()) {
      if (row.supports()) measure(row);
    }
  }

  // Of the whole tower on one picture.
  static double operations(const DeviceVisionSource& source) {
    const std::int64_t n = kPatches, width = source.width, merged = source.merge * width;
    const std::int64_t block = 2 * n * width * (4 * width + 2 * source.mlp_width) + 4 * n * n * width;
    return static_cast<double>(source.depth * block + 2 * n * source.columns * width +
                               2 * n / source.merge * merged * (merged + source.output));
  }

  cuda::DeviceStream stream_;
  cuda::DeviceUploader uploader_{stream_};
  cuda::DeviceArena arena_;
};

}  // namespace

void bench_vision(const std::function<bool(const std::string&)>& wanted) {
  VisionBench bench;
  const std::int32_t n = kPatches;
  const auto frames = [&](const std::string& name, const std::vector<std::int32_t>& ends, std::int64_t d) {
    if (wanted(name)) bench.frames(name, ends, 16, d);
  };
  frames("attention/frames_3996x16x80", {n}, 80);
  frames("attention/frames_3996x16x72", {n}, 72);
  frames("attention/frames_3996x16x64", {n}, 64);
  frames("attention/frames_8x1024x16x80", {1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192}, 80);
  const auto prompt = [&](const std::string& name, std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads) {
    if (wanted(name)) bench.prompt(name, tokens, heads, kv_heads);
  };
  prompt("attention/prompt_1041x12_2x128", 1041, 12, 2);
  prompt("attention/prompt_1041x28_4x128", 1041, 28, 4);
  prompt("attention/prompt_8192x28_4x128", 8192, 28, 4);
  if (wanted("vision/ops")) bench.tower_ops();
  if (wanted("vision/tower")) bench.tower();
}

}  // namespace halftone::testing
