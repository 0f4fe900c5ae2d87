// The newest tokens of sequences on the device, which attend over a paged cache, and what the cache holds, against the CPU.
#include <numeric>
#include <optional>

#include "backend/cuda/decode_ops.h"
#include "formats/e4m3.h"
#include "formats/kv_int8.h"
#include "ops/attention.h"
#include "ops/rope.h"
#include "tests/backend/cuda/paged_cache.h"

namespace halftone {
namespace {

using testing::bf16_input;
using testing::bf16_step;
using testing::Cache;
using testing::CacheCase;
using testing::CacheScales;
using testing::CudaDecodeOps;
using testing::DeviceIntegers;
using testing::DeviceRows;

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

}  // namespace
}  // namespace halftone
