#pragma once
// A vision tower of random weights, for tests and measurements.

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/device_model.h"
#include "tests/ops/linear_cases.h"

namespace halftone::testing {

inline Tensor rounded_input(std::int64_t rows, std::int64_t cols, std::uint64_t seed, float factor) {
  Tensor x = random_input(rows, cols, seed);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = bf16::round(x.data<float>()[i] * factor);
  return x;
}

// Outputs have about the variance of the inputs.
inline DeviceProductsSource random_product(std::int64_t rows, std::int64_t cols, std::uint64_t seed, bool biased) {
  DeviceLinearSource source;
  const float factor = std::sqrt(3.0f / static_cast<float>(cols));
  source.weights.push_back(wrap_unquantized(from_f32(rounded_input(rows, cols, seed, factor), DType::kBF16)));
  source.biases.emplace_back();
  if (biased) source.biases[0] = rounded_input(1, rows, seed + 1, 0.25f).reshape({rows});
  return {source};
}

inline DeviceNormSource random_norm(std::int64_t cols, std::uint64_t seed) {
  Tensor weight = rounded_input(1, cols, seed, 0.25f).reshape({cols});
  for (std::int64_t i = 0; i < cols; ++i) weight.data<float>()[i] = bf16::round(weight.data<float>()[i] + 1.0f);
  return {weight, rounded_input(1, cols, seed + 1, 0.25f).reshape({cols})};
}

constexpr std::size_t kSlab = std::size_t{1} << 20;  // of arenas for towers

// The weights of a product as INT8 or E4M3, a scale for each output.
inline void quantize_product(DeviceProductsSource& product, Element element, const InputQuant& input) {
  const Tensor values = to_f32(product[0].weights[0].payload);
  QTensor weight;
  weight.spec = {element, Granularity::kChannel, 0};
  weight.shape = values.shape();
  weight.payload = Tensor(payload_dtype(element), weight.shape);
  weight.scales = Tensor(DType::kF32, scales_shape(weight.spec, weight.shape));
  for (std::int64_t row = 0; row < weight.rows(); ++row) {
    const float* from = values.data<float>() + row * weight.cols();
    float amax = 0;
    for (std::int64_t i = 0; i < weight.cols(); ++i) amax = std::max(amax, std::fabs(from[i]));
    const float scale = weight.scales.data<float>()[row] = amax / (element == Element::kInt8 ? 127.0f : 448.0f);
    for (std::int64_t i = 0; i < weight.cols(); ++i) {
      const std::int64_t at = row * weight.cols() + i;
      if (element == Element::kInt8) {
        weight.payload.data<std::int8_t>()[at] = static_cast<std::int8_t>(std::nearbyint(from[i] / scale));
      } else {
        weight.payload.bits<std::uint8_t>()[at] = e4m3::encode_saturated(from[i] / scale);
      }
    }
  }
  product[0].weights[0] = weight;
  product[0].input = input;
}

struct VisionShape {
  std::int64_t depth, heads, head_dim, mlp_width, columns, output;
};
// Of Qwen2-VL 2B.
constexpr VisionShape kVision2B{32, 16, 80, 5120, 1176, 1536};

// Its blocks repeat `distinct` different ones.
inline DeviceVisionSource random_vision(const VisionShape& shape, std::int64_t distinct) {
  DeviceVisionSource source;
  source.depth = shape.depth;
  source.heads = shape.heads;
  source.head_dim = shape.head_dim;
  source.width = shape.heads * shape.head_dim;
  source.mlp_width = shape.mlp_width;
  source.columns = shape.columns;
  source.merge = 4;
  source.output = shape.output;
  const std::int64_t width = source.width, merged = source.merge * width;
  source.patch_embed = random_product(width, shape.columns, 1, false);
  source.merger_norm = random_norm(width, 3);
  source.merger_first = random_product(merged, merged, 5, true);
  source.merger_second = random_product(shape.output, merged, 7, true);
  std::vector<DeviceVisionBlockSource> blocks;
  for (std::int64_t i = 0; i < distinct; ++i) {
    const auto seed = static_cast<std::uint64_t>(100 + 20 * i);
    blocks.push_back({random_norm(width, seed), random_norm(width, seed + 2),
                      random_product(3 * width, width, seed + 4, true), random_product(width, width, seed + 6, true),
                      random_product(shape.mlp_width, width, seed + 8, true),
                      random_product(width, shape.mlp_width, seed + 10, true)});
  }
  source.block = [blocks](std::int64_t i) { return blocks[static_cast<std::size_t>(i) % blocks.size()]; };
  return source;
}

// Its blocks' and its merger's products quantized, as `--vision fp8` and `--vision int8` have them.
inline void quantize_vision(DeviceVisionSource& source, Element element, const InputQuant& input) {
  for (DeviceProductsSource* product : {&source.merger_first, &source.merger_second}) {
    quantize_product(*product, element, input);
  }
  std::vector<DeviceVisionBlockSource> blocks;
  for (std::int64_t i = 0; i < source.depth; ++i) {
    DeviceVisionBlockSource block = source.block(i);
    for (DeviceProductsSource* product : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) {
      quantize_product(*product, element, input);
    }
    blocks.push_back(block);
  }
  source.block = [blocks](std::int64_t i) { return blocks[static_cast<std::size_t>(i)]; };
}

// Patches of frames, their rotations by random angles.
struct VisionPatches {
  Tensor pixels, cos, sin;
  std::vector<std::int64_t> frame_ends;

  VisionPatches(const DeviceVisionSource& source, std::vector<std::int64_t> ends)
      : pixels(random_input(ends.back(), source.columns, 11)),
        cos(random_input(ends.back(), source.head_dim / 2, 12)),
        sin(DType::kF32, cos.shape()),
        frame_ends(std::move(ends)) {
    for (std::int64_t i = 0; i < cos.numel(); ++i) {
      const float angle = 8 * cos.data<float>()[i];
      cos.data<float>()[i] = std::cos(angle);
      sin.data<float>()[i] = std::sin(angle);
    }
  }
};

}  // namespace halftone::testing
