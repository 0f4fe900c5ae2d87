// The ops of a decoder's step on the device against their CPU references, among NaN and with odd strides.
#include "backend/cuda/decode_ops.h"

#include <numeric>
#include <optional>

#include "backend/cuda/prepare_input.h"
#include "formats/e4m3.h"
#include "formats/kv_int8.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/linear_kernels.h"
#include "ops/rope.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/backend/cuda/paged_cache.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

using testing::bf16_input;
using testing::bf16_step;
using testing::Cache;
using testing::CacheCase;
using testing::CacheScales;
using testing::DeviceIntegers;
using testing::DeviceRows;

class CudaDecodeOps : public testing::DeviceOpsTest {};

TEST_F(CudaDecodeOps, NormIsWithinAStepOfTheCpu) {
  for (const std::int64_t cols : {1, 7, 64, 1536, 3585}) {
    const Tensor x = bf16_input(3, cols, 1), w = testing::random_input(1, cols, 2).reshape({cols});
    Tensor wanted(DType::kF32, {3, cols});
    rms_norm(x, w, 1e-6f, Numerics::kBF16, wanted, cpu_);
    const DeviceRows input(DType::kBF16, x, 3), weight(DType::kF32, w.reshape({1, cols}));
    DeviceRows y(DType::kBF16, 3, cols, 5);
    cuda::prepare_input(
        {input.matrix(), static_cast<const float*>(weight.matrix().data), 1e-6f, {}, y.matrix(), nullptr}, launch());
    stream_->synchronize();
    const Tensor got = y.values();
    for (std::int64_t i = 0; i < got.numel(); ++i) {
      const float value = wanted.data<float>()[i];
      ASSERT_NEAR(got.data<float>()[i], value, bf16_step(value)) << cols << " columns, element " << i;
    }
    EXPECT_TRUE(y.padding_intact());
  }
}

TEST_F(CudaDecodeOps, InputsGetTheCodesOfTheCpu) {
  using enum InputQuant::Kind;
  for (const InputQuant& input : {InputQuant{kStaticInt8, 0.011f}, InputQuant{kStaticE4M3, 0.003f},
                                  InputQuant{kDynamicInt8}, InputQuant{kDynamicE4M3}}) {
    for (const std::int64_t cols : {1, 31, 1536}) {
      Tensor x = bf16_input(4, cols, 3);
      for (std::int64_t i = 0; i < cols; ++i) x.data<float>()[2 * cols + i] = 0;
      Tensor codes(DType::kF32, x.shape()), scales(DType::kF32, {4});
      quantize_input_reference(x, input, codes, scales);
      const DeviceRows device_x(DType::kBF16, x, 1);
      for (const DType type : {DType::kBF16, DType::kI8, DType::kF8E4M3}) {
        if (type != DType::kBF16 && is_int8(input.kind) != (type == DType::kI8)) continue;
        DeviceRows y(type, 4, cols, 2), s(DType::kF32, 4, 1);
        auto* token_scales = scales_tokens(input.kind) ? static_cast<float*>(s.matrix().data) : nullptr;
        cuda::prepare_input({device_x.matrix(), nullptr, 0, input, y.matrix(), token_scales}, launch());
        stream_->synchronize();
        const Tensor got = y.values(), got_scales = s.values();
        for (std::int64_t i = 0; i < got.numel(); ++i) ASSERT_EQ(got.data<float>()[i], codes.data<float>()[i]) << i;
        for (std::int64_t m = 0; token_scales && m < 4; ++m) {
          EXPECT_EQ(got_scales.data<float>()[m], scales.data<float>()[m]);
        }
        EXPECT_TRUE(y.padding_intact());
      }
    }
  }
}

// Rows at multiples of 16 bytes, which are read once, and others; with a norm and without.
TEST_F(CudaDecodeOps, InputsGetTheSameCodesWhereverRowsBegin) {
  using enum InputQuant::Kind;
  for (const InputQuant& input :
       {InputQuant{}, InputQuant{kStaticE4M3, 0.003f}, InputQuant{kDynamicInt8}, InputQuant{kDynamicE4M3}}) {
    for (const std::int64_t cols : {8, 1536, 3584, 4608, 8960, 20480}) {
      const Tensor x = bf16_input(3, cols, 3);
      const DeviceRows aligned_x(DType::kBF16, x, 8), odd_x(DType::kBF16, x, 3),
          norm(DType::kF32, testing::random_input(1, cols, 7));
      for (const float* w : {static_cast<const float*>(norm.matrix().data), static_cast<const float*>(nullptr)}) {
        std::vector<std::vector<std::uint8_t>> codes, scales;
        for (const DeviceRows* rows : {&aligned_x, &odd_x}) {
          DeviceRows y(DType::kBF16, 3, cols, 8), s(DType::kF32, 3, 1);
          auto* token_scales = scales_tokens(input.kind) ? static_cast<float*>(s.matrix().data) : nullptr;
          cuda::prepare_input({rows->matrix(), w, 1e-6f, input, y.matrix(), token_scales}, launch());
          stream_->synchronize();
          EXPECT_TRUE(y.padding_intact());
          codes.push_back(y.stored());
          scales.push_back(s.stored());
        }
        EXPECT_TRUE(codes[0] == codes[1] && scales[0] == scales[1])
            << cols << " columns, kind " << static_cast<int>(input.kind) << (w ? ", with a norm" : "");
      }
    }
  }
}

// Gates and values whose product is quantized at once get the codes that the two ops give.
TEST_F(CudaDecodeOps, GatesAreQuantizedAsTheOpsDoIt) {
  using enum InputQuant::Kind;
  for (const InputQuant& input : {InputQuant{kStaticE4M3, 0.003f}, InputQuant{kDynamicInt8}, InputQuant{kDynamicE4M3},
                                  InputQuant{kDynamicE4M3Group}, InputQuant{kDynamicNvfp4, 0.0011f}}) {
    for (const std::int64_t cols : {31, 1536, 8960, 18944}) {
      for (const std::int64_t padding : {std::int64_t{3}, 16 - 2 * cols % 8}) {
        const DeviceRows gate_up(DType::kBF16, bf16_input(3, 2 * cols, 3), padding);
        DeviceRows product(DType::kBF16, 3, cols, padding), wanted(DType::kBF16, 3, cols), got(DType::kBF16, 3, cols),
            wanted_scales(DType::kF32, 3, 1), got_scales(DType::kF32, 3, 1);
        const auto scales = [&](const DeviceRows& rows) {
          return scales_tokens(input.kind) ? static_cast<float*>(rows.matrix().data) : nullptr;
        };
        cuda::silu_mul(gate_up.matrix(), product.matrix(), launch());
        cuda::prepare_input({product.matrix(), nullptr, 0, input, wanted.matrix(), scales(wanted_scales)}, launch());
        cuda::prepare_input({gate_up.matrix(), nullptr, 0, input, got.matrix(), scales(got_scales), true}, launch());
        stream_->synchronize();
        EXPECT_TRUE(got.stored() == wanted.stored() && got_scales.stored() == wanted_scales.stored())
            << cols << " columns, kind " << static_cast<int>(input.kind) << ", padding " << padding;
        EXPECT_TRUE(got.padding_intact());
      }
    }
  }
}

// Blocks that bf16 holds, and groups of 128 as codes and scales; a token of zeros, one that is not finite, one of NaN.
TEST_F(CudaDecodeOps, BlocksOfInputsGetTheValuesOfTheCpu) {
  using enum InputQuant::Kind;
  for (const InputQuant& input :
       {InputQuant{kDynamicNvfp4, 0.0011f}, InputQuant{kDynamicNvfp4, 900.0f, true}, InputQuant{kDynamicMxfp8},
        InputQuant{kDynamicMxfp8, 1.0f, true}, InputQuant{kDynamicMxfp4}, InputQuant{kDynamicMxfp4, 1.0f, true},
        InputQuant{kDynamicE4M3Group}}) {
    for (const std::int64_t cols : {1, 31, 136, 257, 1536}) {
      Tensor x = bf16_input(5, cols, 3);
      for (std::int64_t i = 0; i < cols; ++i) x.data<float>()[2 * cols + i] = 0;
      x.data<float>()[3 * cols + cols / 2] = std::numeric_limits<float>::infinity();
      x.data<float>()[4 * cols + cols / 2] = std::numeric_limits<float>::quiet_NaN();
      Tensor wanted(DType::kF32, x.shape()), unused(DType::kF32, {5});
      quantize_input_reference(x, input, wanted, unused);
      const DeviceRows device_x(DType::kBF16, x, 1);
      const std::int64_t count = cuda::input_scale_count(input.kind, cols);
      DeviceRows y(DType::kBF16, 5, cols, 2), scales(DType::kF32, 5, count);
      const bool groups = cuda::scales_groups(input.kind);
      auto* group_scales = groups ? static_cast<float*>(scales.matrix().data) : nullptr;
      cuda::prepare_input({device_x.matrix(), nullptr, 0, input, y.matrix(), group_scales}, launch());
      stream_->synchronize();
      const Tensor got = y.values(), got_scales = scales.values();
      for (std::int64_t i = 0; i < got.numel(); ++i) {
        const std::int64_t group = i / cols * count + i % cols / 128;
        const float value = got.data<float>()[i] * (groups ? got_scales.data<float>()[group] : 1.0f);
        const float expected = wanted.data<float>()[i];
        ASSERT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected)))
            << static_cast<int>(input.kind) << ": " << cols << " columns, element " << i << ": " << value << ", not "
            << expected;
      }
      EXPECT_TRUE(y.padding_intact());
      if (!groups) continue;
      DeviceRows bytes(DType::kF8E4M3, 5, cols, 3), again(DType::kF32, 5, count);
      cuda::prepare_input(
          {device_x.matrix(), nullptr, 0, input, bytes.matrix(), static_cast<float*>(again.matrix().data)}, launch());
      stream_->synchronize();
      const Tensor codes = bytes.values();
      EXPECT_EQ(std::memcmp(codes.raw(), got.raw(), static_cast<std::size_t>(got.nbytes())), 0) << cols;
      EXPECT_TRUE(again.stored() == scales.stored() && bytes.padding_intact()) << cols;
      cuda::prepare_input({device_x.matrix(), nullptr, 0, input, y.matrix(), nullptr}, launch());
      stream_->synchronize();
      const Tensor whole = y.values();
      for (std::int64_t i = 0; i < whole.numel(); ++i) {
        const float expected = bf16::round(wanted.data<float>()[i]), value = whole.data<float>()[i];
        ASSERT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected))) << cols << " element " << i;
      }
    }
  }
}

TEST_F(CudaDecodeOps, SiluMulIsWithinAStepOfTheCpu) {
  const Tensor gate_up = bf16_input(5, 2 * 301, 1);
  Tensor wanted(DType::kF32, {5, 301});
  silu_mul(gate_up, Numerics::kBF16, wanted, cpu_);
  const DeviceRows input(DType::kBF16, gate_up, 3);
  DeviceRows y(DType::kBF16, 5, 301, 1);
  cuda::silu_mul(input.matrix(), y.matrix(), launch());
  stream_->synchronize();
  const Tensor got = y.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float value = wanted.data<float>()[i];
    // a step of the silu and the rounding of the product
    ASSERT_NEAR(got.data<float>()[i], value, 2 * bf16_step(value)) << i;
  }
  EXPECT_TRUE(y.padding_intact());
}

TEST_F(CudaDecodeOps, EmbeddingCopiesRows) {
  const Tensor table = bf16_input(11, 77, 1);
  const DeviceRows device_table(DType::kBF16, table);
  const DeviceIntegers tokens({10, 0, 3, 3, 11, -1});
  DeviceRows y(DType::kBF16, 6, 77, 3);
  cuda::embedding({device_table.matrix(), tokens.data(), y.matrix(), {}, nullptr}, launch());
  stream_->synchronize();
  const Tensor got = y.values();
  const int rows[] = {10, 0, 3, 3};
  for (int r = 0; r < 4; ++r) {
    EXPECT_EQ(std::memcmp(got.data<float>() + r * 77, table.data<float>() + rows[r] * 77, 77 * sizeof(float)), 0) << r;
  }
  EXPECT_TRUE(std::isnan(got.data<float>()[4 * 77]) && std::isnan(got.data<float>()[5 * 77]));
  EXPECT_TRUE(y.padding_intact());

  const Tensor pictures = bf16_input(2, 77, 2);
  const DeviceRows device_pictures(DType::kBF16, pictures);
  const DeviceIntegers picture_rows({-1, 1, -1, 0, 0, 1});
  cuda::embedding({device_table.matrix(), tokens.data(), y.matrix(), device_pictures.matrix(), picture_rows.data()},
                  launch());
  stream_->synchronize();
  const Tensor mixed = y.values();
  const float* expected[] = {table.data<float>() + 10 * 77, pictures.data<float>() + 77, table.data<float>() + 3 * 77,
                             pictures.data<float>(),        pictures.data<float>(),      pictures.data<float>() + 77};
  for (int r = 0; r < 6; ++r) {
    EXPECT_EQ(std::memcmp(mixed.data<float>() + r * 77, expected[r], 77 * sizeof(float)), 0) << r;
  }
}

TEST_F(CudaDecodeOps, InputsAreScaledAndReordered) {
  const std::int64_t cols = 300;
  const Tensor x = bf16_input(3, cols, 1), scales = testing::random_input(1, cols, 2);
  std::vector<std::int32_t> order;
  for (std::int64_t i = 0; i < cols; ++i) order.push_back(static_cast<std::int32_t>((i * 7 + 3) % cols));
  const DeviceRows input(DType::kBF16, x, 1), device_scales(DType::kF32, scales);
  const DeviceIntegers device_order(order);
  DeviceRows y(DType::kBF16, 3, cols, 2);
  cuda::arrange_input(
      {input.matrix(), static_cast<const float*>(device_scales.matrix().data), device_order.data(), y.matrix()},
      launch());
  stream_->synchronize();
  const Tensor got = y.values();
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const std::int64_t from = order[static_cast<std::size_t>(i % cols)];
    const float value = x.data<float>()[i / cols * cols + from] * scales.data<float>()[from];
    ASSERT_EQ(got.data<float>()[i], bf16::decode(bf16::encode(value))) << i;
  }
  EXPECT_TRUE(y.padding_intact());
}

// Sequences whose tokens but the last ones are in the cache, which is NaN elsewhere.
class Decoding {
 public:
  Decoding(const CacheCase& shape, const cuda::DeviceStream& stream, const CacheScales& scales = {},
           std::optional<float> first_value = {})
      : shape_(shape),
        scales_(scales),
        stream_(stream),
        d_(shape.head_dim),
        width_((shape.heads + 2 * shape.kv_heads) * d_),
        longest_(*std::max_element(shape.lengths.begin(), shape.lengths.end())),
        qkv_(bf16_input(std::accumulate(shape.lengths.begin(), shape.lengths.end(), std::int64_t{0}), width_, 5)),
        cos_(bf16_input(qkv_.dim(0), d_ / 2, 6)),
        sin_(bf16_input(qkv_.dim(0), d_ / 2, 7)),
        device_cos_(DType::kF32, cos_),
        device_sin_(DType::kF32, sin_),
        cache_(shape, (longest_ + cuda::kPageTokens - 1) / cuda::kPageTokens, scales) {
    // of the first key-value head
    if (first_value) qkv_.data<float>()[(shape.heads + shape.kv_heads) * d_] = *first_value;
    fill_cache();
  }

  // By rope_append(): all tokens but the last one of each sequence.  Checks q against the CPU, bit for bit.
  void fill_cache() {
    std::vector<std::int32_t> sequences, slots, rows;
    for (std::size_t s = 0; s < shape_.lengths.size(); ++s) {
      first_.push_back(s == 0 ? 0 : first_[s - 1] + shape_.lengths[s - 1]);
      for (std::int32_t i = 0; i + 1 < shape_.lengths[s]; ++i) {
        sequences.push_back(static_cast<std::int32_t>(s));
        slots.push_back(i);
        rows.push_back(static_cast<std::int32_t>(first_[s] + i));
      }
    }
    rotated_ = rotate_all();
    if (rows.empty()) return;
    const Tensor old = rows_of(rows);
    const DeviceRows device_qkv(DType::kBF16, old, 8);
    const DeviceIntegers device_sequences(sequences), device_slots(slots), positions(rows);
    cuda::rope_append({device_qkv.matrix(), floats(device_cos_), floats(device_sin_), device_sequences.data(),
                       device_slots.data(), shape_.heads, positions.data()},
                      cache_.kv(), stream_.launch());
    stream_.synchronize();
    const Tensor got = device_qkv.values();
    for (std::size_t t = 0; t < rows.size(); ++t) {
      ASSERT_EQ(std::memcmp(got.data<float>() + static_cast<std::int64_t>(t) * width_,
                            rotated_.data<float>() + rows[t] * rotated_.dim(1) * d_,
                            static_cast<std::size_t>(shape_.heads * d_) * sizeof(float)),
                0)
          << "token " << rows[t];
    }
  }

  // The last tokens of some sequences attend.  longest: what the launch allows for.  ended: a sequence that has none, or -1.
  Tensor attend(const std::vector<std::int32_t>& sequences, std::int64_t longest, std::int32_t ended = -1) {
    std::vector<std::int32_t> lengths, rows;
    for (const std::int32_t s : sequences) {
      const auto at = static_cast<std::size_t>(s);
      lengths.push_back(s == ended ? 0 : shape_.lengths[at]);
      rows.push_back(static_cast<std::int32_t>(first_[at] + shape_.lengths[at] - 1));
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    const DeviceRows qkv(DType::kBF16, rows_of(rows), 8);
    const DeviceIntegers device_sequences(sequences), device_lengths(lengths), positions(rows);
    const DeviceIntegers counters(std::vector<std::int32_t>(static_cast<std::size_t>(count * shape_.kv_heads), 0));
    DeviceRows out(DType::kBF16, count, shape_.heads * d_, 4);
    DeviceRows workspace(DType::kF32, 1, cuda::attention_workspace(count, shape_.heads, d_));
    cuda::attention_decode(
        {qkv.matrix(), floats(device_cos_), floats(device_sin_), positions.data(), device_sequences.data(),
         device_lengths.data(), longest, scale(), shape_.heads, static_cast<float*>(workspace.matrix().data),
         reinterpret_cast<std::uint32_t*>(counters.data()), out.matrix()},
        cache_.kv(), stream_.launch());
    stream_.synchronize();
    EXPECT_TRUE(out.padding_intact() && workspace.padding_intact());
    const auto zeros = static_cast<std::size_t>(count * shape_.kv_heads);
    EXPECT_EQ(counters.read(zeros), std::vector<std::int32_t>(zeros, 0));
    return out.values();
  }

  void compare(const Tensor& got) const {
    for (std::size_t s = 0; s < shape_.lengths.size(); ++s) {
      const std::int64_t length = shape_.lengths[s];
      std::vector<std::vector<float>> k(static_cast<std::size_t>(shape_.kv_heads)), v(k.size());
      std::vector<const float*> k_heads, v_heads;
      float largest_v = 0;
      for (std::size_t h = 0; h < k.size(); ++h) {
        const auto head = static_cast<std::int64_t>(h);
        for (std::int64_t t = first_[s]; t < first_[s] + length; ++t) {
          const float* key = rotated_.data<float>() + (t * rotated_.dim(1) + shape_.heads + head) * d_;
          const float* value = qkv_.data<float>() + t * width_ + (shape_.heads + shape_.kv_heads + head) * d_;
          for (std::int64_t j = 0; j < d_; ++j) {
            k[h].push_back(as_held(key[j], scales_.k, h));
            v[h].push_back(as_held(value[j], scales_.v, h));
          }
        }
        k_heads.push_back(k[h].data());
        v_heads.push_back(v[h].data());
        for (const float x : v[h]) largest_v = std::max(largest_v, std::fabs(x));
      }
      const AttentionRange range{0, length};
      Tensor q(DType::kF32, {1, shape_.heads, d_}), wanted(DType::kF32, {1, shape_.heads, d_});
      std::copy_n(rotated_.data<float>() + (first_[s] + length - 1) * rotated_.dim(1) * d_, q.numel(), q.data<float>());
      attention_reference(q, {k_heads, v_heads}, {&range, 1}, scale(), Numerics::kF32, wanted);
      for (std::int64_t i = 0; i < wanted.numel(); ++i) {
        const float value = wanted.data<float>()[i];
        // decode_ops.h with scores below 20, the reference's own error included, then the rounding to bf16
        const float bound = (2 * static_cast<float>(length + d_) * 0x1p-22f * 41 + 0x1p-17f) * largest_v;
        ASSERT_NEAR(got.data<float>()[static_cast<std::int64_t>(s) * shape_.heads * d_ + i], value,
                    bound + bf16_step(value) / 2)
            << "sequence " << s << " element " << i;
      }
    }
  }

  // What the cache makes of a key or a value.
  float as_held(float x, const std::vector<float>& scales, std::size_t head) const {
    switch (scales_.element) {
      case cuda::KvElement::kE4M3:
        return e4m3::decode(e4m3::encode_saturated(x / scales[head])) * scales[head];
      case cuda::KvElement::kInt8:
        return kv_int8::decode(kv_int8::encode(x / scales[head])) * scales[head];
      default:
        return x;
    }
  }

  // Numbers in the cache that nobody wrote.
  std::int64_t unwritten() const {
    const Tensor keys = cache_.keys(), values = cache_.values();
    std::int64_t count = 0;
    for (const Tensor* x : {&keys, &values}) {
      count += std::count_if(x->data<float>(), x->data<float>() + x->numel(), [](float v) { return std::isnan(v); });
    }
    return count;
  }

  // By unpack_kv(): keys and values of a sequence's tokens but the last one, as the CPU's cache has them, rounded to bf16.
  void compare_unpacked(std::size_t s) const {
    const std::int32_t tokens = shape_.lengths[s] - 1;
    if (tokens == 0) return;
    const std::int64_t pages = (tokens + cuda::kPageTokens - 1) / cuda::kPageTokens;
    const Cache target({shape_.heads, shape_.kv_heads, d_, {tokens}}, pages);
    cuda::unpack_kv(cache_.kv(), static_cast<std::int32_t>(s), tokens, target.kv(), stream_.launch());
    stream_.synchronize();
    const Tensor keys = target.keys(), values = target.values();
    for (std::int64_t t = 0; t < pages * cuda::kPageTokens; ++t) {
      for (std::int64_t h = 0; h < shape_.kv_heads; ++h) {
        // pages are numbered from the last one
        const std::int64_t page = pages - 1 - t / cuda::kPageTokens;
        const std::int64_t row = ((page * shape_.kv_heads + h) * cuda::kPageTokens + t % cuda::kPageTokens) * d_;
        const std::int64_t token = first_[s] + t, head = shape_.heads + h;
        for (std::int64_t j = 0; j < d_; ++j) {
          float key = 0, value = 0;
          if (t < tokens) {
            key = as_held(rotated_.data<float>()[(token * rotated_.dim(1) + head) * d_ + j], scales_.k,
                          static_cast<std::size_t>(h));
            value = as_held(qkv_.data<float>()[token * width_ + (head + shape_.kv_heads) * d_ + j], scales_.v,
                            static_cast<std::size_t>(h));
          }
          ASSERT_EQ(keys.data<float>()[row + j], bf16::decode(bf16::encode(key))) << "token " << t;
          ASSERT_EQ(values.data<float>()[row + j], bf16::decode(bf16::encode(value))) << "token " << t;
        }
      }
    }
  }

 private:
  static const float* floats(const DeviceRows& rows) { return static_cast<const float*>(rows.matrix().data); }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(d_)); }
  Tensor rows_of(const std::vector<std::int32_t>& rows) const {
    Tensor out(DType::kF32, {static_cast<std::int64_t>(rows.size()), width_});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::copy_n(qkv_.data<float>() + rows[i] * width_, width_,
                  out.data<float>() + static_cast<std::int64_t>(i) * width_);
    }
    return out;
  }
  // q and k of all tokens, by the CPU.
  Tensor rotate_all() const {
    Tensor rotated(DType::kF32, {qkv_.dim(0), shape_.heads + shape_.kv_heads, d_});
    for (std::int64_t t = 0; t < qkv_.dim(0); ++t) {
      std::copy_n(qkv_.data<float>() + t * width_, rotated.dim(1) * d_,
                  rotated.data<float>() + t * rotated.dim(1) * d_);
    }
    ThreadPool pool(1);
    Stream cpu{&pool, Device::kCpu};
    rope(cos_, sin_, Numerics::kBF16, rotated, cpu);
    return rotated;
  }

  CacheCase shape_;
  CacheScales scales_;
  const cuda::DeviceStream& stream_;
  std::int64_t d_, width_, longest_;
  Tensor qkv_, cos_, sin_, rotated_;  // of all tokens
  std::vector<std::int64_t> first_;   // token of each sequence
  DeviceRows device_cos_, device_sin_;
  Cache cache_;
};

TEST_F(CudaDecodeOps, NewestTokensAttendOverPagesAsOnTheCpu) {
  for (const CacheCase& shape :
       {CacheCase{6, 1, 128, {1, 130}}, CacheCase{4, 4, 64, {64, 65, 3}}, CacheCase{14, 2, 96, {128, 129}},
        CacheCase{3, 1, 8, {40}}, CacheCase{12, 2, 128, {1104}}, CacheCase{8, 1, 16, {4097, 8200, 5}}}) {
    Decoding decoding(shape, *stream_);
    std::vector<std::int32_t> all(shape.lengths.size());
    std::iota(all.begin(), all.end(), 0);
    decoding.compare(decoding.attend(all, *std::max_element(shape.lengths.begin(), shape.lengths.end())));
  }
}

constexpr cuda::KvElement kCodes[] = {cuda::KvElement::kE4M3, cuda::KvElement::kInt8};

// Scales that saturate some codes and push others to zero, or below E4M3's smallest normal one.
CacheScales some_scales(cuda::KvElement element, std::int64_t kv_heads) {
  CacheScales scales{element};
  for (std::int64_t h = 0; h < kv_heads; ++h) {
    scales.k.push_back(h % 2 == 0 ? 0.0017f : 1.0f);
    scales.v.push_back(h % 2 == 0 ? (element == cuda::KvElement::kE4M3 ? 23.0f : 0.4f) : 0.003f);
  }
  return scales;
}

// By what they are read as: bf16, of eight bits, tells all codes of a scale apart.
TEST_F(CudaDecodeOps, CodesOfACacheAreThoseOfTheCpu) {
  for (const CacheCase& shape : {CacheCase{6, 1, 128, {1, 130}}, CacheCase{4, 4, 48, {64, 66, 3}}}) {
    for (const cuda::KvElement element : kCodes) {
      const Decoding decoding(shape, *stream_, some_scales(element, shape.kv_heads));
      for (std::size_t s = 0; s < shape.lengths.size(); ++s) decoding.compare_unpacked(s);
    }
  }
}

TEST_F(CudaDecodeOps, NewestTokensAttendOverCodesAsOnTheCpu) {
  for (const CacheCase& shape :
       {CacheCase{6, 1, 128, {1, 130}}, CacheCase{4, 4, 64, {64, 65, 3}}, CacheCase{14, 2, 96, {128, 129}},
        CacheCase{3, 1, 16, {40}}, CacheCase{12, 2, 128, {1104}}, CacheCase{8, 1, 80, {4097, 8200, 5}}}) {
    std::vector<std::int32_t> all(shape.lengths.size());
    std::iota(all.begin(), all.end(), 0);
    for (const cuda::KvElement element : kCodes) {
      Decoding decoding(shape, *stream_, some_scales(element, shape.kv_heads));
      decoding.compare(decoding.attend(all, *std::max_element(shape.lengths.begin(), shape.lengths.end())));
    }
  }
}

TEST_F(CudaDecodeOps, ANaNAmongTheCodesIsSeenByAllThatAttend) {
  const CacheCase shape{4, 2, 64, {200}};
  const std::int64_t width = shape.heads * shape.head_dim;
  for (const cuda::KvElement element : kCodes) {
    const Tensor got =
        Decoding(shape, *stream_, some_scales(element, 2), std::numeric_limits<float>::quiet_NaN()).attend({0}, 200);
    for (std::int64_t i = 0; i < width; ++i) EXPECT_EQ(std::isnan(got.data<float>()[i]), i < width / 2) << i;
  }
}

TEST_F(CudaDecodeOps, ASequenceThatHasEndedIsLeftAlone) {
  const CacheCase shape{6, 2, 64, {700, 129, 40}};
  for (const CacheScales& scales : {CacheScales{}, some_scales(cuda::KvElement::kE4M3, shape.kv_heads)}) {
    Decoding decoding(shape, *stream_, scales);
    const std::int64_t before = decoding.unwritten();
    const Tensor got = decoding.attend({0, 1, 2}, 700, 1);
    EXPECT_EQ(before - decoding.unwritten(), 2 * 2 * shape.kv_heads * shape.head_dim);  // keys and values of two tokens
    const Tensor others = decoding.attend({0, 2}, 700);
    const std::int64_t width = got.dim(1);
    const float *x = got.data<float>(), *y = others.data<float>();
    EXPECT_TRUE(std::equal(x, x + width, y) && std::equal(x + 2 * width, x + 3 * width, y + width));
    EXPECT_TRUE(std::all_of(x + width, x + 2 * width, [](float v) { return std::isnan(v); }));
  }
}

TEST_F(CudaDecodeOps, ATokenAttendsWithTheSameBitsAmongOthers) {
  for (const CacheCase& shape : {CacheCase{6, 2, 64, {700, 5000, 129}}, CacheCase{24, 12, 128, {700, 5000, 129}}}) {
    for (const CacheScales& scales : {CacheScales{}, some_scales(cuda::KvElement::kE4M3, shape.kv_heads),
                                      some_scales(cuda::KvElement::kInt8, shape.kv_heads)}) {
      Decoding decoding(shape, *stream_, scales);
      const Tensor together = decoding.attend({0, 1, 2}, 5000);
      const auto width = static_cast<std::size_t>(together.dim(1));
      for (const std::int32_t s : {0, 1, 2}) {
        const Tensor alone = decoding.attend({s}, shape.lengths[static_cast<std::size_t>(s)]);
        EXPECT_EQ(std::memcmp(alone.data<float>(), together.data<float>() + static_cast<std::size_t>(s) * width,
                              width * sizeof(float)),
                  0)
            << "sequence " << s << " of " << shape.kv_heads << " heads";
      }
    }
  }
}

TEST_F(CudaDecodeOps, ArgmaxTakesTheFirstOfEqualsSaysTheGapAndShowsWhatIsNotFinite) {
  const std::int64_t cols = 20011;
  Tensor logits = testing::random_input(5, cols, 1);
  float* x = logits.data<float>();
  x[777] = x[778] = x[20010] = 9.0f;
  x[cols + 20010] = 9.0f;
  x[cols + 3] = 8.5f;
  x[2 * cols + 12345] = std::numeric_limits<float>::quiet_NaN();
  x[3 * cols + 1] = -std::numeric_limits<float>::infinity();
  x[4 * cols + 20000] = std::numeric_limits<float>::infinity();
  const DeviceRows device_logits(DType::kF32, logits, 1);
  DeviceRows workspace(DType::kI8, 1, cuda::argmax_workspace(5)), gaps(DType::kF32, 1, 5);
  const DeviceIntegers tokens({7, 7, 7, 7, 7});
  cuda::argmax(
      {device_logits.matrix(), workspace.matrix().data, tokens.data(), static_cast<float*>(gaps.matrix().data)},
      launch());
  stream_->synchronize();
  EXPECT_EQ(tokens.read(5), (std::vector<std::int32_t>{777, 20010, -1, -1, -1}));
  const Tensor gap = gaps.values();
  EXPECT_EQ(gap.data<float>()[0], 0.0f);
  EXPECT_EQ(gap.data<float>()[1], 0.5f);
  EXPECT_TRUE(std::isnan(gap.data<float>()[2]));
  EXPECT_TRUE(workspace.padding_intact());
  EXPECT_TRUE(gaps.padding_intact());
}

TEST_F(CudaDecodeOps, GraphsRepeatWhatTheyRecorded) {
  const Tensor gate_up = bf16_input(2, 2 * 64, 1);
  const DeviceRows input(DType::kBF16, gate_up);
  DeviceRows y(DType::kBF16, 2, 64), z(DType::kBF16, 2, 64);
  cuda::silu_mul(input.matrix(), y.matrix(), launch());
  const cuda::DeviceGraph graph(
      *stream_, [&](const cuda::Launch& recorded) { cuda::silu_mul(input.matrix(), z.matrix(), recorded); });
  graph.run(*stream_);
  stream_->synchronize();
  EXPECT_EQ(y.stored(), z.stored());
}

TEST_F(CudaDecodeOps, SayWhatDoesNotFit) {
  DeviceRows x(DType::kBF16, 2, 6), f32(DType::kF32, 2, 6);
  EXPECT_THROW(cuda::silu_mul(x.matrix(), x.matrix(), launch()), Error);
  EXPECT_THROW(cuda::argmax({x.matrix()}, launch()), Error);
  EXPECT_THROW(cuda::prepare_input({f32.matrix(), nullptr, 0, {}, x.matrix(), nullptr}, launch()), Error);
  EXPECT_THROW(cuda::DeviceArena("test", std::size_t{1} << 50), Error);
  cuda::DeviceArena arena("test", 256);
  arena.allocate(200);
  EXPECT_THROW(arena.allocate(1), Error);
}

}  // namespace
}  // namespace halftone
