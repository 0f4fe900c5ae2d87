// The whole vision tower on the device against the CPU's ops.
#include "backend/cuda/vision_tower.h"

#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/rope.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/backend/cuda/vision_source.h"

namespace halftone {
namespace {

using testing::DeviceRows;
using testing::VisionPatches;
using testing::VisionShape;

class CudaVisionTower : public testing::DeviceTest {};

constexpr VisionShape kShape{2, 4, 24, 200, 40, 56};

// The tower by the CPU's ops, as model/encoders/qwen2_vl_vision.cpp and model/projectors/patch_merger.cpp call them.
class CpuTower {
 public:
  CpuTower(const DeviceVisionSource& source, Numerics numerics) : source_(source), numerics_(numerics) {}

  Tensor encode(const VisionPatches& patches) {
    Tensor pixels = patches.pixels.clone();
    round_to(numerics_, pixels, cpu_);
    Tensor x = multiply(source_.patch_embed, pixels);
    for (std::int64_t i = 0; i < source_.depth; ++i) {
      const DeviceVisionBlockSource block = source_.block(i);
      const Tensor mixed = attend(multiply(block.qkv, normalize(block.norm1, x)), patches);
      add(multiply(block.proj, mixed), numerics_, x, cpu_);
      Tensor inner = multiply(block.fc1, normalize(block.norm2, x));
      quick_gelu(inner, numerics_, inner, cpu_);
      add(multiply(block.fc2, inner), numerics_, x, cpu_);
    }
    const Tensor normed = normalize(source_.merger_norm, x);
    Tensor inner =
        multiply(source_.merger_first, normed.reshape({x.dim(0) / source_.merge, source_.merge * source_.width}));
    gelu_erf(inner, numerics_, inner, cpu_);
    return multiply(source_.merger_second, inner);
  }

 private:
  Tensor normalize(const DeviceNormSource& norm, const Tensor& x) {
    Tensor y(DType::kF32, x.shape());
    layer_norm(x, norm.weight, norm.bias, source_.norm_eps, numerics_, y, cpu_);
    return y;
  }

  Tensor multiply(const DeviceProductsSource& product, const Tensor& x) {
    const QTensor& weight = product[0].weights[0];
    Tensor y(DType::kF32, {x.dim(0), weight.rows()});
    linear_reference(x, weight, product[0].biases[0], product[0].input, y);
    round_to(numerics_, y, cpu_);
    return y;
  }

  Tensor attend(const Tensor& qkv, const VisionPatches& patches) {
    const std::int64_t n = qkv.dim(0), heads = source_.heads, d = source_.head_dim, width = source_.width;
    Tensor parts[3] = {Tensor(DType::kF32, {n, heads, d}), Tensor(DType::kF32, {n, heads, d}),
                       Tensor(DType::kF32, {n, heads, d})};
    for (std::int64_t t = 0; t < n; ++t) {
      for (std::int64_t p = 0; p < 3; ++p) {
        std::copy_n(qkv.data<float>() + (t * 3 + p) * width, width, parts[p].data<float>() + t * width);
      }
    }
    for (int p = 0; p < 2; ++p) {
      rope(patches.cos, patches.sin, Numerics::kF32, parts[p], cpu_);
      round_to(numerics_, parts[p], cpu_);
    }
    Tensor k(DType::kF32, {heads, n, d}), v(DType::kF32, {heads, n, d});
    std::vector<const float*> k_heads, v_heads;
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < n; ++t) {
        std::copy_n(parts[1].data<float>() + (t * heads + h) * d, d, k.data<float>() + (h * n + t) * d);
        std::copy_n(parts[2].data<float>() + (t * heads + h) * d, d, v.data<float>() + (h * n + t) * d);
      }
      k_heads.push_back(k.data<float>() + h * n * d);
      v_heads.push_back(v.data<float>() + h * n * d);
    }
    std::vector<AttentionRange> ranges;
    for (std::int64_t begin = 0; const std::int64_t end : patches.frame_ends) {
      ranges.insert(ranges.end(), static_cast<std::size_t>(end - begin), AttentionRange{begin, end});
      begin = end;
    }
    Tensor out(DType::kF32, {n, heads, d});
    attention(parts[0], {k_heads, v_heads}, ranges, 1.0f / std::sqrt(static_cast<float>(d)), numerics_, out, cpu_);
    return out.reshape({n, width});
  }

  const DeviceVisionSource& source_;
  Numerics numerics_;
  ThreadPool pool_{1};
  Stream cpu_{&pool_, Device::kCpu};
};

double distance(const Tensor& a, const Tensor& b) {
  double squares = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) squares += std::pow(a.data<float>()[i] - b.data<float>()[i], 2);
  return std::sqrt(squares);
}

cuda::VisionInput input_of(const VisionPatches& patches) {
  return {patches.pixels.dim(0), patches.pixels.data<float>(), patches.cos.data<float>(), patches.sin.data<float>(),
          patches.frame_ends};
}

// Rounding at the same places, the device's tower is as near to exact arithmetic as the CPU's. Each is some dozens of
// roundings away from it, whose signs differ: hence a quarter of room.
void expect_nearness(const DeviceVisionSource& source) {
  const cuda::DeviceStream stream;
  cuda::DeviceUploader uploader(stream, 1);
  cuda::DeviceArena weights = cuda::DeviceArena::growing("test", testing::kSlab);
  cuda::DeviceArena workspace = cuda::DeviceArena::growing("test", testing::kSlab);
  const cuda::VisionTower tower(source, 200, weights, uploader);
  const cuda::VisionTower::Buffers buffers = tower.make_buffers(workspace);
  EXPECT_LE(workspace.used(), tower.buffer_bytes());
  for (const std::vector<std::int64_t>& ends : {std::vector<std::int64_t>{16, 152, 200}, {4}}) {
    const VisionPatches patches(source, ends);
    DeviceRows out(DType::kBF16, ends.back() / 4, source.output, 8);
    tower.encode(input_of(patches), buffers, out.matrix(), stream);
    stream.synchronize();
    const Tensor exact = CpuTower(source, Numerics::kF32).encode(patches);
    const Tensor rounded = CpuTower(source, Numerics::kBF16).encode(patches);
    EXPECT_LE(distance(out.values(), exact), 1.25 * distance(rounded, exact)) << ends.back() << " patches";
    EXPECT_TRUE(out.padding_intact());
  }
}

TEST_F(CudaVisionTower, IsAsNearToExactArithmeticAsTheCpu) { expect_nearness(testing::random_vision(kShape, 2)); }

// Inputs quantized by token: where the last place of one differs, so may its code.
TEST_F(CudaVisionTower, IsAsNearWhenItIsQuantized) {
  DeviceVisionSource fp8 = testing::random_vision(kShape, 2), int8 = fp8, int8_weights = fp8;
  testing::quantize_vision(fp8, Element::kE4M3, {InputQuant::Kind::kDynamicE4M3});
  expect_nearness(fp8);
  testing::quantize_vision(int8, Element::kInt8, {InputQuant::Kind::kDynamicInt8});
  expect_nearness(int8);
  testing::quantize_vision(int8_weights, Element::kInt8, {});
  expect_nearness(int8_weights);
}

TEST_F(CudaVisionTower, GraphsGiveTheSameBits) {
  const DeviceVisionSource source = testing::random_vision(kShape, 1);
  const cuda::DeviceStream stream;
  cuda::DeviceUploader uploader(stream, 1);
  cuda::DeviceArena weights = cuda::DeviceArena::growing("test", testing::kSlab);
  cuda::DeviceArena workspace = cuda::DeviceArena::growing("test", testing::kSlab);
  const cuda::VisionTower tower(source, 64, weights, uploader);
  const cuda::VisionTower::Buffers buffers = tower.make_buffers(workspace);
  const VisionPatches patches(source, {24, 64});
  DeviceRows out(DType::kBF16, 16, kShape.output), again(DType::kBF16, 16, kShape.output);
  tower.encode(input_of(patches), buffers, out.matrix(), stream);
  tower.upload(input_of(patches), buffers, stream);
  const cuda::DeviceGraph graph(stream,
                                [&](const cuda::Launch& launch) { tower.run(64, 2, buffers, again.matrix(), launch); });
  graph.run(stream);
  stream.synchronize();
  EXPECT_EQ(out.stored(), again.stored());
}

// Patches of 4 x 4 pixels, twice each, of a picture of 24 x 32 pixels, as vision/qwen2_vl_processor.h cuts them.
TEST_F(CudaVisionTower, CutsPicturesAsTheCpuDoes) {
  constexpr std::int64_t kSize = 4, kFrames = 2, kHeight = 24, kWidth = 32, kPatches = kHeight * kWidth / 16;
  const DeviceVisionSource source = testing::random_vision({2, 4, 24, 200, 3 * kFrames * kSize * kSize, 56}, 1);
  const std::int64_t quarter = source.head_dim / 4;
  std::vector<std::uint8_t> rgb(kHeight * kWidth * 3);
  std::vector<float> values(3 * 256);
  Random random(5);
  for (std::uint8_t& byte : rgb) byte = static_cast<std::uint8_t>(random.below(256));
  for (float& value : values) value = static_cast<float>(2 * random.uniform() - 1);
  const DevicePicture picture{rgb.data(),
                              kHeight,
                              kWidth,
                              kSize,
                              kFrames,
                              2,
                              values,
                              testing::random_input(kWidth / kSize, quarter, 1),
                              testing::random_input(kWidth / kSize, quarter, 2)};

  VisionPatches patches(source, {kPatches});
  float* pixel = patches.pixels.data<float>();
  float *cos = patches.cos.data<float>(), *sin = patches.sin.data<float>();
  for (std::int64_t p = 0; p < kPatches; ++p) {
    const std::int64_t block = p / 4, row = block / (kWidth / kSize / 2) * 2 + p % 4 / 2,
                       col = block % (kWidth / kSize / 2) * 2 + p % 2;
    for (const std::int64_t axis : {row, col}) {
      cos = std::copy_n(picture.axis_cos.data<float>() + axis * quarter, quarter, cos);
      sin = std::copy_n(picture.axis_sin.data<float>() + axis * quarter, quarter, sin);
    }
    for (std::int64_t c = 0; c < 3; ++c) {
      for (std::int64_t i = 0; i < kFrames * kSize * kSize; ++i) {
        const std::int64_t y = row * kSize + i % 16 / kSize, x = col * kSize + i % kSize;
        const std::uint8_t byte = rgb[static_cast<std::size_t>((y * kWidth + x) * 3 + c)];
        *pixel++ = values[static_cast<std::size_t>(c) * 256 + byte];
      }
    }
  }

  const cuda::DeviceStream stream;
  cuda::DeviceUploader uploader(stream, 1);
  cuda::DeviceArena weights = cuda::DeviceArena::growing("test", testing::kSlab);
  cuda::DeviceArena workspace = cuda::DeviceArena::growing("test", testing::kSlab);
  const cuda::VisionTower tower(source, kPatches, weights, uploader);
  const cuda::VisionTower::Buffers buffers = tower.make_buffers(workspace);
  DeviceRows wanted(DType::kBF16, kPatches / 4, 56), got(DType::kBF16, kPatches / 4, 56);
  tower.encode(input_of(patches), buffers, wanted.matrix(), stream);
  tower.upload(picture, buffers, stream);
  tower.run(kPatches, 1, buffers, got.matrix(), stream.launch());
  stream.synchronize();
  EXPECT_EQ(got.stored(), wanted.stored());
}

TEST_F(CudaVisionTower, SaysWhatDoesNotFit) {
  DeviceVisionSource source = testing::random_vision(kShape, 1);
  const cuda::DeviceStream stream;
  cuda::DeviceUploader uploader(stream, 1);
  cuda::DeviceArena weights = cuda::DeviceArena::growing("test", testing::kSlab);
  cuda::DeviceArena workspace = cuda::DeviceArena::growing("test", testing::kSlab);
  const cuda::VisionTower tower(source, 8, weights, uploader);
  const cuda::VisionTower::Buffers buffers = tower.make_buffers(workspace);
  DeviceRows out(DType::kBF16, 2, kShape.output);
  EXPECT_THROW(tower.encode(input_of(VisionPatches(source, {12})), buffers, out.matrix(), stream), Error);
  EXPECT_THROW(tower.encode(input_of(VisionPatches(source, {6})), buffers, out.matrix(), stream), Error);
  const VisionPatches patches(source, {8});
  for (const std::vector<std::int64_t>& ends : {std::vector<std::int64_t>{4}, {8, 8}, {}}) {
    cuda::VisionInput input = input_of(patches);
    input.frame_ends = ends;
    EXPECT_THROW(tower.encode(input, buffers, out.matrix(), stream), Error);
  }
  source.merger_second = testing::random_product(kShape.output, 8, 1, true);
  EXPECT_THROW(cuda::VisionTower(source, 8, weights, uploader), Error);
}

}  // namespace
}  // namespace halftone
