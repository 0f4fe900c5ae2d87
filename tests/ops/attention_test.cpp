// attention(): the kernels against the scalar reference, bit for bit, and the reference against plain arithmetic.
#include "ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/ops/linear_cases.h"
#include "tests/ops/targets.h"

namespace halftone {
namespace {

struct AttentionCase {
  std::int64_t tokens, heads, kv_heads, d, length;
};

// Keys and values of `kv_heads` heads; what lies beyond `length` is NaN, as memory that was never written may be.
struct Cache {
  Cache(const AttentionCase& c, std::uint64_t seed) {
    constexpr std::int64_t kUnwritten = 40;
    for (std::int64_t h = 0; h < c.kv_heads; ++h) {
      for (auto* list : {&keys, &values}) {
        const Tensor written = testing::random_input(c.length, c.d, ++seed);
        std::vector<float> memory(static_cast<std::size_t>((c.length + kUnwritten) * c.d),
                                  std::numeric_limits<float>::quiet_NaN());
        std::memcpy(memory.data(), written.raw(), static_cast<std::size_t>(written.nbytes()));
        list->push_back(std::move(memory));
      }
      k.push_back(keys.back().data());
      v.push_back(values.back().data());
    }
  }
  AttentionKv view() const { return {k, v}; }
  std::vector<std::vector<float>> keys, values;
  std::vector<const float*> k, v;
};

std::vector<AttentionRange> causal(const AttentionCase& c) {
  std::vector<AttentionRange> ranges;
  for (std::int64_t t = 0; t < c.tokens; ++t) ranges.push_back({0, c.length - c.tokens + t + 1});
  return ranges;
}

// Pictures of 7, 12, 7, ... patches; each patch sees its own picture.
std::vector<AttentionRange> pictures(const AttentionCase& c) {
  std::vector<AttentionRange> ranges;
  std::int64_t begin = 0;
  for (std::int64_t size = 7; begin < c.tokens; begin += size, size = 19 - size) {
    const std::int64_t end = std::min(begin + size, c.tokens);
    for (std::int64_t t = begin; t < end; ++t) ranges.push_back({begin, end});
  }
  return ranges;
}

void expect_reference_bits(const AttentionCase& c, const std::vector<AttentionRange>& ranges, Numerics numerics,
                           const Cache& cache) {
  const Tensor q = testing::random_input(c.tokens * c.heads, c.d, 11).reshape({c.tokens, c.heads, c.d});
  Tensor wanted(DType::kF32, q.shape()), got(DType::kF32, q.shape());
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.d));
  attention_reference(q, cache.view(), ranges, scale, numerics, wanted);
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    Stream stream{&pool, Device::kCpu};
    attention(q, cache.view(), ranges, scale, numerics, got, stream);
    for (std::int64_t i = 0; i < got.numel(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(got.data<float>()[i]),
                std::bit_cast<std::uint32_t>(wanted.data<float>()[i]))
          << "element " << i << " of " << c.tokens << " tokens, d " << c.d << ", " << c.length
          << " keys: " << got.data<float>()[i] << " and " << wanted.data<float>()[i];
    }
  }
}

TEST(Attention, GivesTheBitsOfTheReference) {
  const AttentionCase cases[] = {{1, 1, 1, 1, 1},    {1, 6, 1, 128, 300}, {1, 12, 2, 64, 17}, {5, 4, 2, 33, 40},
                                 {50, 4, 2, 64, 50}, {61, 3, 3, 80, 61},  {9, 8, 1, 72, 100}, {30, 2, 2, 20, 500},
                                 {7, 26, 1, 16, 33}, {40, 1, 1, 80, 40}};
  for_each_target([&] {
    for (const AttentionCase& c : cases) {
      const Cache cache(c, 100);
      for (const Numerics numerics : {Numerics::kF32, Numerics::kBF16}) {
        expect_reference_bits(c, causal(c), numerics, cache);
        if (c.tokens <= c.length) expect_reference_bits(c, pictures(c), numerics, cache);
        if (HasFatalFailure()) return;
      }
    }
  });
}

// A picture's result depends neither on its place in a ragged call nor on what its neighbours hold, NaN included.
TEST(Attention, PicturesAreIndependent) {
  for_each_target([] {
    const AttentionCase alone{12, 2, 2, 24, 12};
    const Cache cache(alone, 5);
    const Tensor q = testing::random_input(24, 24, 11).reshape({12, 2, 24});
    Tensor wanted(DType::kF32, q.shape());
    const std::vector<AttentionRange> own(12, {0, 12});
    attention(q, cache.view(), own, 0.2f, Numerics::kF32, wanted, default_stream());
    // the same picture behind one of 5 patches of NaN
    constexpr std::int64_t kBefore = 5;
    std::vector<std::vector<float>> memory;
    for (const auto* list : {&cache.keys, &cache.values}) {
      for (const std::vector<float>& head : *list) {
        memory.emplace_back(kBefore * 24, std::numeric_limits<float>::quiet_NaN());
        memory.back().insert(memory.back().end(), head.begin(), head.end());
      }
    }
    const std::vector<const float*> k{memory[0].data(), memory[1].data()}, v{memory[2].data(), memory[3].data()};
    Tensor both = Tensor::zeros(DType::kF32, {12 + kBefore, 2, 24}), got(DType::kF32, both.shape());
    std::memcpy(both.data<float>() + kBefore * 48, q.raw(), static_cast<std::size_t>(q.nbytes()));
    std::vector<AttentionRange> ranges(kBefore, {0, kBefore});
    ranges.insert(ranges.end(), 12, {kBefore, kBefore + 12});
    attention(both, {k, v}, ranges, 0.2f, Numerics::kF32, got, default_stream());
    EXPECT_EQ(std::memcmp(got.data<float>() + kBefore * 48, wanted.raw(), static_cast<std::size_t>(wanted.nbytes())),
              0);
    EXPECT_TRUE(std::isnan(got.data<float>()[0]));
  });
}

// A token decoded alone has the bits of the same token in a prompt.
TEST(Attention, DecodingEqualsPrefill) {
  for_each_target([] {
    const AttentionCase c{45, 6, 2, 64, 45};
    const Cache cache(c, 9);
    const Tensor q = testing::random_input(45 * 6, 64, 11).reshape({45, 6, 64});
    Tensor all(DType::kF32, q.shape());
    const auto ranges = causal(c);
    attention(q, cache.view(), ranges, 0.125f, Numerics::kF32, all, default_stream());
    for (const std::int64_t t : {0, 15, 16, 44}) {
      Tensor one(DType::kF32, {1, 6, 64});
      attention(q.rows(t, t + 1), cache.view(), std::span(ranges).subspan(static_cast<std::size_t>(t), 1), 0.125f,
                Numerics::kF32, one, default_stream());
      EXPECT_EQ(std::memcmp(one.raw(), all.rows(t, t + 1).raw(), static_cast<std::size_t>(one.nbytes())), 0) << t;
    }
  });
}

// Against double arithmetic: each of the d + length roundings is below one ulp of the largest value, 2.
TEST(Attention, ReferenceIsAccurate) {
  const AttentionCase c{3, 2, 1, 40, 70};
  const Cache cache(c, 3);
  const Tensor q = testing::random_input(6, 40, 11).reshape({3, 2, 40});
  Tensor got(DType::kF32, q.shape());
  const auto ranges = causal(c);
  attention_reference(q, cache.view(), ranges, 0.5f, Numerics::kF32, got);
  for (std::int64_t i = 0; i < 6; ++i) {
    const std::int64_t end = ranges[static_cast<std::size_t>(i / 2)].end;
    std::vector<double> p;
    double sum = 0;
    for (std::int64_t s = 0; s < end; ++s) {
      double dot = 0;
      for (std::int64_t j = 0; j < 40; ++j)
        dot += static_cast<double>(q.data<float>()[i * 40 + j]) * cache.k[0][s * 40 + j];
      p.push_back(std::exp(dot * 0.5));
      sum += p.back();
    }
    for (std::int64_t j = 0; j < 40; ++j) {
      double wanted = 0;
      for (std::int64_t s = 0; s < end; ++s) wanted += p[static_cast<std::size_t>(s)] / sum * cache.v[0][s * 40 + j];
      EXPECT_NEAR(got.data<float>()[i * 40 + j], wanted, (40 + 70) * 0x1p-23);
    }
  }
}

TEST(Attention, RefusesWhatDoesNotFit) {
  const AttentionCase c{2, 4, 2, 8, 4};
  const Cache cache(c, 3);
  const Tensor q = testing::random_input(8, 8, 1).reshape({2, 4, 8});
  Tensor out(DType::kF32, q.shape()), flat(DType::kF32, {8, 8});
  const std::vector<AttentionRange> good{{0, 3}, {0, 4}}, few{{0, 3}}, empty{{0, 3}, {2, 2}};
  EXPECT_THROW(attention(q, cache.view(), few, 1, Numerics::kF32, out, default_stream()), Error);
  EXPECT_THROW(attention(q, cache.view(), empty, 1, Numerics::kF32, out, default_stream()), Error);
  EXPECT_THROW(attention(q, cache.view(), good, 1, Numerics::kF32, flat, default_stream()), Error);
  EXPECT_THROW(attention(q, {}, good, 1, Numerics::kF32, out, default_stream()), Error);
}

}  // namespace
}  // namespace halftone
