// Decoding, resampling and patching of one picture: what TTFT spends before the vision tower. Items are input pixels.
#include <benchmark/benchmark.h>

#include "base/file.h"
#include "vision/picture.h"
#include "vision/qwen2_vl_processor.h"
#include "vision/resample.h"

namespace halftone {
namespace {

// Gradients under fine noise.
Picture drawn_picture(std::int64_t width, std::int64_t height) {
  Picture picture{.width = width, .height = height, .rgb = {}};
  picture.rgb.resize(static_cast<std::size_t>(width * height * 3));
  std::uint32_t noise = 1;
  for (std::size_t i = 0; i < picture.rgb.size(); ++i) {
    noise = noise * 1664525u + 1013904223u;
    picture.rgb[i] = static_cast<std::uint8_t>(i / 3 % static_cast<std::size_t>(width) / 5 + (noise >> 28));
  }
  return picture;
}

void count_pixels(benchmark::State& state, const Picture& picture) {
  state.SetItemsProcessed(state.iterations() * picture.width * picture.height);
}

void resize_reference(benchmark::State& state) {
  const Picture picture = drawn_picture(state.range(0), state.range(1));
  for (auto _ : state) {
    auto result = resize_bicubic_reference(picture, state.range(2), state.range(3));
    benchmark::DoNotOptimize(result);
  }
  count_pixels(state, picture);
}

void resize(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(4)));
  const Picture picture = drawn_picture(state.range(0), state.range(1));
  for (auto _ : state) {
    auto result = resize_bicubic(picture, state.range(2), state.range(3), pool);
    benchmark::DoNotOptimize(result);
  }
  count_pixels(state, picture);
}

// resize and cut: 1036 x 756 is a multiple of 28, so that only the cutting is timed; 1024 x 768 is resampled first.
void process(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(2)));
  const Picture picture = drawn_picture(state.range(0), state.range(1));
  Qwen2VlProcessor processor;
  processor.std.fill(1);
  for (auto _ : state) {
    auto result = process_picture(picture, processor, pool);
    benchmark::DoNotOptimize(result);
  }
  count_pixels(state, picture);
}

void decode(benchmark::State& state, const char* file) {
  const std::string content = read_file(std::filesystem::path(HALFTONE_SOURCE_DIR) / file);
  const Picture picture = decode_picture(std::as_bytes(std::span(content)), file);
  for (auto _ : state) {
    auto result = decode_picture(std::as_bytes(std::span(content)), file);
    benchmark::DoNotOptimize(result);
  }
  count_pixels(state, picture);
}

constexpr auto kUnit = benchmark::kMillisecond;
BENCHMARK(resize_reference)->Args({1600, 1200, 1036, 756})->Unit(kUnit);
BENCHMARK(resize)
    ->Args({1600, 1200, 1036, 756, 1})
    ->Args({1600, 1200, 1036, 756, 2})
    ->Args({640, 480, 224, 168, 1})
    ->Args({640, 480, 1036, 756, 1})
    ->Args({4000, 3000, 1036, 756, 2})
    ->Unit(kUnit);
BENCHMARK(process)->Args({1036, 756, 1})->Args({1036, 756, 2})->Args({1024, 768, 2})->Unit(kUnit);
BENCHMARK_CAPTURE(decode, jpeg_1036x756, "demo/suite/llava-bench/images/010.jpg")->Unit(kUnit);

}  // namespace
}  // namespace halftone
