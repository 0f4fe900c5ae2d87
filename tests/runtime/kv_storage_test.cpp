// Every KV format: what is read is what the format's equation says, whatever the order of appending, growing and
// copying.

#include "runtime/kv_storage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/kv_int8.h"
#include "model/mrope.h"

namespace halftone {
namespace {

constexpr std::int64_t kLayers = 2, kHeads = 2, kDim = 8, kTokens = 150;

DecoderConfig decoder_config() {
  DecoderConfig config;
  config.layers = kLayers;
  config.kv_heads = kHeads;
  config.heads = kHeads;
  config.head_dim = kDim;
  config.mrope_section = {2, 1, 1};
  return config;
}

Tensor random_tensor(Shape shape, float spread, std::uint64_t seed) {
  Tensor tensor(DType::kF32, std::move(shape));
  Random random(seed);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data<float>()[i] = spread * static_cast<float>(2 * random.uniform() - 1);
  }
  return tensor;
}

KvQuantization stored_scales(const std::string& format, std::vector<float> k, std::vector<float> v) {
  KvQuantization stored{format, {}};
  for (std::int64_t i = 0; i < kLayers; ++i) stored.layers.push_back({k, v});
  return stored;
}

std::vector<Tensor> key_biases() {
  return {random_tensor({kHeads * kDim}, 300, 21), random_tensor({kHeads * kDim}, 300, 22)};
}

struct Case {
  const char* format;
  Numerics numerics;
};

struct Fixture {
  explicit Fixture(const Case& c)
      : layout(
            std::make_shared<KvLayout>(make_kv_layout(c.format, stored_scales(c.format, {0.5f, 2.0f}, {0.25f, 0.125f}),
                                                      decoder_config(), c.numerics, key_biases(), "test"))) {
    std::vector<Position> positions;
    for (std::int32_t i = 0; i < kTokens; ++i) positions.push_back({i, i / 3, i % 7});
    rotation = mrope_tables(decoder_config(), positions, c.numerics);
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      const auto seed = static_cast<std::uint64_t>(layer);
      k.push_back(random_tensor({kTokens, kHeads, kDim}, 700, 1 + seed));
      v.push_back(random_tensor({kTokens, kHeads, kDim}, 60, 11 + seed));
    }
  }

  // Appends tokens [begin, end) to all layers, in pieces.
  void fill(StoredKvCache& cache, std::int64_t begin, std::int64_t end, std::int64_t piece) const {
    for (std::int64_t at = begin; at < end; at += piece) {
      const std::int64_t stop = std::min(end, at + piece);
      cache.begin(rotation.cos.rows(at, stop), rotation.sin.rows(at, stop));
      for (std::int64_t layer = 0; layer < kLayers; ++layer) {
        const auto i = static_cast<std::size_t>(layer);
        cache.append(layer, k[i].rows(at, stop), v[i].rows(at, stop));
      }
      cache.commit();
    }
  }

  std::shared_ptr<const KvLayout> layout;
  RotationTables rotation;
  std::vector<Tensor> k, v;
};

// The rotated bias of one element, as the format's definition has it.
float rotated_bias(const Fixture& f, std::int64_t layer, std::int64_t token, std::int64_t head, std::int64_t j) {
  const float* bias = f.layout->key_bias.at(static_cast<std::size_t>(layer)).data<float>() + head * kDim;
  const std::int64_t half = kDim / 2, at = token * half + j % half;
  const float cos = f.rotation.cos.data<float>()[at], sin = f.rotation.sin.data<float>()[at];
  return j < half ? bias[j] * cos - bias[j + half] * sin : bias[j] * cos + bias[j - half] * sin;
}

float expected_value(const Fixture& f, const Tensor& x, bool is_key, std::int64_t layer, std::int64_t token,
                     std::int64_t head, std::int64_t j) {
  const float value = x.data<float>()[(token * kHeads + head) * kDim + j];
  switch (f.layout->storage) {
    case KvLayout::Storage::kF32:
      return value;
    case KvLayout::Storage::kBF16:
      return bf16::round(value);
    default: {
      const KvScales& scales = f.layout->scales[static_cast<std::size_t>(layer)];
      const float scale = (is_key ? scales.k : scales.v)[static_cast<std::size_t>(head)];
      const float bias = is_key && !f.layout->key_bias.empty() ? rotated_bias(f, layer, token, head, j) : 0.0f;
      if (f.layout->storage == KvLayout::Storage::kInt8) {
        return kv_int8::decode(kv_int8::encode(value / scale)) * scale;
      }
      return e4m3::decode(e4m3::encode_saturated((value - bias) / scale)) * scale + bias;
    }
  }
}

class KvFormats : public ::testing::TestWithParam<Case> {};

TEST_P(KvFormats, ReadWhatTheirEquationSays) {
  const Fixture f(GetParam());
  StoredKvCache cache(f.layout);
  f.fill(cache, 0, kTokens, 37);
  ASSERT_EQ(cache.length(), kTokens);
  for (std::int64_t layer = 0; layer < kLayers; ++layer) {
    const AttentionKv kv = cache.read(layer);
    const auto i = static_cast<std::size_t>(layer);
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t t = 0; t < kTokens; ++t) {
        for (std::int64_t j = 0; j < kDim; ++j) {
          ASSERT_EQ(kv.k[static_cast<std::size_t>(h)][t * kDim + j], expected_value(f, f.k[i], true, layer, t, h, j));
          ASSERT_EQ(kv.v[static_cast<std::size_t>(h)][t * kDim + j], expected_value(f, f.v[i], false, layer, t, h, j));
        }
      }
    }
  }
}

std::vector<float> contents(StoredKvCache& cache) {
  std::vector<float> all;
  for (std::int64_t layer = 0; layer < kLayers; ++layer) {
    const AttentionKv kv = cache.read(layer);
    for (const auto& heads : {kv.k, kv.v}) {
      for (const float* head : heads) all.insert(all.end(), head, head + cache.length() * kDim);
    }
  }
  return all;
}

TEST_P(KvFormats, DoNotDependOnPiecesCutsAndCopies) {
  const Fixture f(GetParam());
  StoredKvCache whole(f.layout), pieces(f.layout), cut(f.layout), copy(f.layout);
  f.fill(whole, 0, kTokens, kTokens);
  f.fill(pieces, 0, kTokens, 1);
  f.fill(cut, 0, 100, 100);
  cut.truncate(40);
  f.fill(cut, 40, kTokens, 60);
  copy.copy_prefix(whole, 70);
  f.fill(copy, 70, kTokens, 80);
  EXPECT_EQ(contents(pieces), contents(whole));
  EXPECT_EQ(contents(cut), contents(whole));
  EXPECT_EQ(contents(copy), contents(whole));
}

INSTANTIATE_TEST_SUITE_P(Formats, KvFormats,
                         ::testing::Values(Case{"bf16", Numerics::kF32}, Case{"bf16", Numerics::kBF16},
                                           Case{"fp8", Numerics::kF32}, Case{"fp8_calibrated", Numerics::kF32},
                                           Case{"fp8_head", Numerics::kF32}, Case{"fp8_debiased", Numerics::kF32},
                                           Case{"fp8_debiased", Numerics::kBF16},
                                           Case{"int8_calibrated", Numerics::kF32}, Case{"int8_head", Numerics::kF32},
                                           Case{"int8_head", Numerics::kBF16}));

TEST(KvLayout, CountsBytes) {
  const auto bytes = [](const char* format, Numerics numerics) {
    return make_kv_layout(format, stored_scales(format, {1.0f}, {1.0f}), decoder_config(), numerics, key_biases(),
                          "test")
        .bytes_per_token();
  };
  const std::int64_t values = 2 * kLayers * kHeads * kDim;
  EXPECT_EQ(bytes("bf16", Numerics::kF32), 4 * values);
  EXPECT_EQ(bytes("bf16", Numerics::kBF16), 2 * values);
  EXPECT_EQ(bytes("fp8_head", Numerics::kF32), values);
  EXPECT_EQ(bytes("int8_head", Numerics::kF32), values);
}

TEST(KvLayout, TakesScalesOnlyWhereTheyFit) {
  const auto make = [](const char* format, const KvQuantization& stored) {
    return make_kv_layout(format, stored, decoder_config(), Numerics::kF32, key_biases(), "folder");
  };
  const KvQuantization heads = stored_scales("fp8_head", {0.5f, 2.0f}, {0.25f, 0.125f});
  // the scale of all heads is the largest of them
  EXPECT_EQ(make("fp8_calibrated", heads).scales[0].k, (std::vector<float>{2.0f, 2.0f}));
  EXPECT_EQ(make("", heads).format, "fp8_head");
  EXPECT_EQ(make("fp8", heads).scales[1].v, (std::vector<float>{1.0f, 1.0f}));
  const KvQuantization integers = stored_scales("int8_head", {0.5f, 2.0f}, {0.25f, 0.125f});
  EXPECT_EQ(make("int8_calibrated", integers).scales[0].k, (std::vector<float>{2.0f, 2.0f}));
  EXPECT_EQ(make("", integers).storage, KvLayout::Storage::kInt8);
  EXPECT_THROW(make("int8_calibrated", heads), Error);
  EXPECT_THROW(make("fp8_calibrated", integers), Error);
  EXPECT_THROW(make("fp8_debiased", heads), Error);
  EXPECT_THROW(make("fp8_head", stored_scales("fp8_calibrated", {1.0f}, {1.0f})), Error);
  EXPECT_THROW(make("fp8_calibrated", KvQuantization{}), Error);
  EXPECT_THROW(make("fp9", heads), Error);
  EXPECT_THROW(make("fp8_head", stored_scales("fp8_head", {1, 1, 1}, {1, 1, 1})), Error);
}

// What the first head holds of NaN, 1e9, -449 and zeros, under a scale of 1.
std::vector<float> extremes_as_held(const std::string& format) {
  StoredKvCache cache(std::make_shared<KvLayout>(
      make_kv_layout(format, stored_scales(format, {1}, {1}), decoder_config(), Numerics::kF32, {}, "test")));
  Tensor k = Tensor::zeros(DType::kF32, {1, kHeads, kDim});
  k.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  k.data<float>()[1] = 1e9f;
  k.data<float>()[2] = -449.0f;
  const RotationTables rotation = mrope_tables(decoder_config(), std::vector<Position>(1), Numerics::kF32);
  cache.begin(rotation.cos, rotation.sin);
  for (std::int64_t layer = 0; layer < kLayers; ++layer) cache.append(layer, k, k);
  cache.commit();
  const float* head = cache.read(0).k[0];
  return {head, head + kDim};
}

TEST(KvFormats, KeepNanAndSaturate) {
  for (const auto& [format, largest] : {std::pair{"fp8", 448.0f}, std::pair{"int8_head", 127.0f}}) {
    const std::vector<float> head = extremes_as_held(format);
    EXPECT_TRUE(std::isnan(head[0]));
    EXPECT_EQ(head[1], largest);
    EXPECT_EQ(head[2], -largest);
    EXPECT_EQ(head[3], 0.0f);
  }
}

// amax / 127 and rounding to nearest: no value within amax is further off than half a step.
TEST(KvFormats, Int8LosesHalfAStepAtMost) {
  const Tensor x = random_tensor({1, 1000}, 3.0f, 5);
  const float scale = 3.0f / kv_int8::kMax;
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const float value = x.data<float>()[i], held = kv_int8::decode(kv_int8::encode(value / scale)) * scale;
    // the quotient and the product are rounded, each by 2^-24 of at most 127
    ASSERT_LE(std::fabs(held - value), scale * (0.5f + 127 * 0x1p-23f));
  }
}

}  // namespace
}  // namespace halftone
