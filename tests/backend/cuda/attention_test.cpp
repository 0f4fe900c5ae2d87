// Attention of prompts and pictures on the device against the CPU's reference, among NaN and with odd strides.
#include "ops/attention.h"

#include <numeric>

#include "backend/cuda/attention_prompt.h"
#include "tests/backend/cuda/paged_cache.h"

namespace halftone {
namespace {

using testing::bf16_input;
using testing::Cache;
using testing::CacheCase;
using testing::DeviceIntegers;
using testing::DeviceRows;

class CudaAttention : public testing::DeviceOpsTest {};

// The rows that this device supports.
std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const cuda::AttentionRow& row : cuda::attention_rows()) {
    if (row.supports()) names.emplace_back(row.name);
  }
  return names;
}

// NaN bytes, like what is around them.
DeviceRows workspace_of(std::int64_t keys, std::int64_t kv_heads, std::int64_t d) {
  return DeviceRows(DType::kI8, 1, static_cast<std::int64_t>(cuda::attention_prompt_workspace(keys, kv_heads, d)));
}

// Scores of some 2 in the middle, 8 at most.
float scale_of(std::int64_t head_dim) { return 6.0f / std::sqrt(static_cast<float>(head_dim)); }

// Columns [first, first + count) of a matrix.
Tensor columns(const Tensor& x, std::int64_t first, std::int64_t count) {
  Tensor out(DType::kF32, {x.dim(0), count});
  for (std::int64_t r = 0; r < x.dim(0); ++r) {
    std::copy_n(x.data<float>() + r * x.dim(1) + first, count, out.data<float>() + r * count);
  }
  return out;
}

Tensor magnitudes(const Tensor& x) {
  Tensor out = x.clone();
  for (std::int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = std::fabs(out.data<float>()[i]);
  return out;
}

// The largest Euclidean length of a head's row.
float longest_row(const Tensor& x, std::int64_t d) {
  double longest = 0;
  for (std::int64_t i = 0; i < x.numel(); i += d) {
    double squares = 0;
    for (std::int64_t j = 0; j < d; ++j) squares += std::pow(x.data<float>()[i + j], 2);
    longest = std::max(longest, squares);
  }
  return static_cast<float>(std::sqrt(longest));
}

// q: [tokens, heads d], k, v: [length, kv_heads d].
struct Problem {
  Tensor q, k, v;
  std::vector<AttentionRange> ranges;
  std::int64_t heads, kv_heads, d;

  Tensor attend(const Tensor& values) const {
    std::vector<Tensor> k_parts, v_parts;
    std::vector<const float*> k_heads, v_heads;
    for (std::int64_t h = 0; h < kv_heads; ++h) {
      k_parts.push_back(columns(k, h * d, d));
      v_parts.push_back(columns(values, h * d, d));
      k_heads.push_back(k_parts.back().data<float>());
      v_heads.push_back(v_parts.back().data<float>());
    }
    Tensor out(DType::kF32, {q.dim(0), heads, d});
    attention_reference(q.reshape(out.shape()), {k_heads, v_heads}, ranges, scale_of(d), Numerics::kF32, out);
    return out;
  }

  // attention_prompt.h's bound, where a score's error and the sum's are the reference's, too.
  void compare(const Tensor& got, const std::string& name) const {
    const Tensor wanted = attend(v), weights = attend(magnitudes(v));
    std::int64_t length = 0;
    for (const AttentionRange& range : ranges) length = std::max(length, range.end - range.begin);
    const float score = static_cast<float>(d) * 0x1p-22f * scale_of(d) * longest_row(q, d) * longest_row(k, d);
    const float relative = 0x1p-9f + 4 * score + 2 * static_cast<float>(length) * 0x1p-22f;
    for (std::int64_t i = 0; i < wanted.numel(); ++i) {
      const float value = wanted.data<float>()[i], error = relative * weights.data<float>()[i];
      const float rounding = (std::fabs(value) + error) * 0x1p-8f;
      ASSERT_NEAR(got.data<float>()[i], value, error + rounding) << name << ", element " << i;
    }
  }
};

// q, k and v of pictures beside each other.
struct Pictures {
  std::int64_t heads, d;
  std::vector<std::int32_t> ends;
  std::int64_t rows() const { return ends.back(); }

  Tensor attend(const Tensor& qkv, const cuda::DeviceStream& stream, std::int64_t out_padding,
                std::string_view kernel) const {
    const DeviceRows input(DType::kBF16, qkv, 8);
    const DeviceIntegers frame_ends(ends);
    DeviceRows out(DType::kBF16, rows(), heads * d, out_padding);
    const DeviceRows workspace = workspace_of(rows(), heads, d);
    cuda::attention_frames({input.matrix(), frame_ends.data(), static_cast<std::int64_t>(ends.size()), scale_of(d),
                            heads, out.matrix(), workspace.matrix().data},
                           stream.launch(), kernel);
    stream.synchronize();
    EXPECT_TRUE(out.padding_intact() && workspace.padding_intact());
    return out.values();
  }
};

std::vector<AttentionRange> ranges_of(const std::vector<std::int32_t>& ends) {
  std::vector<AttentionRange> ranges;
  for (std::int64_t begin = 0; const std::int32_t end : ends) {
    ranges.insert(ranges.end(), static_cast<std::size_t>(end - begin), AttentionRange{begin, end});
    begin = end;
  }
  return ranges;
}

TEST_F(CudaAttention, PicturesSeeTheirOwnFrames) {
  for (const std::int64_t d : {80, 72, 64, 96, 128, 8}) {
    for (const std::vector<std::int32_t>& ends :
         {std::vector<std::int32_t>{1}, {16, 80, 145, 272}, {129, 132, 389}, {64, 192}}) {
      const Pictures pictures{3, d, ends};
      const std::int64_t width = pictures.heads * d;
      const Tensor qkv = bf16_input(pictures.rows(), 3 * width, 1);
      const Problem problem{columns(qkv, 0, width),
                            columns(qkv, width, width),
                            columns(qkv, 2 * width, width),
                            ranges_of(ends),
                            pictures.heads,
                            pictures.heads,
                            d};
      for (const std::string& kernel : kernels()) {
        problem.compare(pictures.attend(qkv, *stream_, 2, kernel),
                        fmt::format("{}, {} dimensions, {} rows", kernel, d, pictures.rows()));
      }
    }
  }
}

TEST_F(CudaAttention, APictureGivesTheSameBitsAmongOthers) {
  const std::vector<std::int32_t> ends = {70, 333, 400};
  const Pictures all{2, 80, ends}, alone{2, 80, {333 - 70}};
  const Tensor qkv = bf16_input(400, 3 * 160, 2);
  for (const std::string& kernel : kernels()) {
    const Tensor got = all.attend(qkv, *stream_, 0, kernel);
    const Tensor wanted = alone.attend(qkv.rows(70, 333), *stream_, 0, kernel);
    EXPECT_EQ(std::memcmp(got.data<float>() + 70 * 160, wanted.data<float>(), sizeof(float) * 263 * 160), 0) << kernel;
  }
}

// The second of two sequences, its keys and values in pages.
class Prompt {
 public:
  Prompt(const CacheCase& shape, const cuda::DeviceStream& stream, std::string kernel)
      : shape_(shape),
        kernel_(std::move(kernel)),
        stream_(stream),
        length_(shape.lengths[1]),
        cache_(shape, (length_ + cuda::kPageTokens - 1) / cuda::kPageTokens + 1),
        qkv_(bf16_input(length_, (shape.heads + 2 * shape.kv_heads) * shape.head_dim, 3)) {}

  // Appends the tokens from `first` to `end` and lets them attend; rows of the result: theirs.
  Tensor attend(std::int64_t first, std::int64_t end) {
    append(first, end);
    const std::int64_t width = shape_.heads * shape_.head_dim;
    const DeviceRows q(DType::kBF16, columns(qkv_, 0, width).rows(first, end), 8);
    DeviceRows out(DType::kBF16, end - first, width, 6);
    const DeviceRows workspace = workspace_of(end, shape_.kv_heads, shape_.head_dim);
    cuda::attention_prompt(
        {q.matrix(), 1, first, scale_of(shape_.head_dim), shape_.heads, out.matrix(), workspace.matrix().data},
        cache_.kv(), stream_.launch(), kernel_);
    stream_.synchronize();
    EXPECT_TRUE(out.padding_intact() && workspace.padding_intact());
    return out.values();
  }

  Problem problem() const {
    const std::int64_t d = shape_.head_dim, width = shape_.heads * d, kv_width = shape_.kv_heads * d;
    std::vector<AttentionRange> ranges;
    for (std::int64_t t = 0; t < length_; ++t) ranges.push_back({0, t + 1});
    return {columns(qkv_, 0, width),
            columns(qkv_, width, kv_width),
            columns(qkv_, width + kv_width, kv_width),
            ranges,
            shape_.heads,
            shape_.kv_heads,
            d};
  }

 private:
  void append(std::int64_t first, std::int64_t end) {
    const std::int64_t count = end - first, half = shape_.head_dim / 2;
    Tensor one(DType::kF32, {count, half}), zero(DType::kF32, {count, half});
    std::fill_n(one.data<float>(), one.numel(), 1.0f);
    std::fill_n(zero.data<float>(), zero.numel(), 0.0f);
    std::vector<std::int32_t> slots(static_cast<std::size_t>(count));
    std::iota(slots.begin(), slots.end(), static_cast<std::int32_t>(first));
    const DeviceRows qkv(DType::kBF16, qkv_.rows(first, end)), cos(DType::kF32, one), sin(DType::kF32, zero);
    const DeviceIntegers sequences(std::vector<std::int32_t>(slots.size(), 1)), device_slots(slots);
    cuda::rope_append(
        {qkv.matrix(), static_cast<const float*>(cos.matrix().data), static_cast<const float*>(sin.matrix().data),
         sequences.data(), device_slots.data(), shape_.heads},
        cache_.kv(), stream_.launch());
    stream_.synchronize();
  }

  CacheCase shape_;
  std::string kernel_;
  const cuda::DeviceStream& stream_;
  std::int64_t length_;
  Cache cache_;
  Tensor qkv_;
};

TEST_F(CudaAttention, PromptsSeeWhatCameBefore) {
  for (const CacheCase& shape :
       {CacheCase{6, 1, 128, {5, 301}}, CacheCase{4, 4, 64, {5, 128}}, CacheCase{7, 1, 96, {5, 65}},
        CacheCase{4, 2, 80, {5, 64}}, CacheCase{2, 1, 16, {5, 1}}, CacheCase{2, 2, 40, {5, 190}}}) {
    for (const std::string& kernel : kernels()) {
      Prompt prompt(shape, *stream_, kernel);
      prompt.problem().compare(prompt.attend(0, shape.lengths[1]),
                               fmt::format("{}, {} dimensions", kernel, shape.head_dim));
    }
  }
}

TEST_F(CudaAttention, APromptGivesTheSameBitsInPieces) {
  for (const std::string& kernel : kernels()) {
    for (const std::int64_t d : {128, 80}) {
      const CacheCase shape{6, 2, d, {5, 400}};
      Prompt whole(shape, *stream_, kernel), pieces(shape, *stream_, kernel);
      const Tensor wanted = whole.attend(0, 400);
      for (std::int64_t first = 0; const std::int64_t end : {1, 63, 129, 130, 260, 400}) {
        const Tensor got = pieces.attend(first, end);
        ASSERT_EQ(std::memcmp(got.data<float>(), wanted.data<float>() + first * 6 * d,
                              sizeof(float) * static_cast<std::size_t>(got.numel())),
                  0)
            << kernel << ", " << d << " dimensions, queries from " << first;
        first = end;
      }
    }
  }
}

TEST_F(CudaAttention, SaysWhatDoesNotFit) {
  DeviceRows qkv(DType::kBF16, 4, 3 * 16), out(DType::kBF16, 4, 16), odd(DType::kBF16, 4, 3 * 16, 1);
  const DeviceIntegers ends({4});
  const auto attend = [&](const cuda::DeviceMatrix& x, const cuda::DeviceMatrix& y, std::int64_t heads, float scale) {
    cuda::attention_frames({x, ends.data(), 1, scale, heads, y}, stream_->launch());
  };
  EXPECT_NO_THROW(attend(qkv.matrix(), out.matrix(), 2, 1.0f));
  EXPECT_THROW(attend(odd.matrix(), out.matrix(), 2, 1.0f), Error);
  EXPECT_THROW(attend(qkv.matrix(), qkv.matrix(), 2, 1.0f), Error);
  EXPECT_THROW(attend(qkv.matrix(), out.matrix(), 4, 1.0f), Error);
  EXPECT_THROW(attend(qkv.matrix(), out.matrix(), 2, 0.0f), Error);
  EXPECT_THROW(cuda::attention_frames({qkv.matrix(), ends.data(), 1, 1.0f, 2, out.matrix()}, stream_->launch(), "none"),
               Error);
  EXPECT_THROW(
      cuda::attention_frames({qkv.matrix(), ends.data(), 1, 1.0f, 2, out.matrix()}, stream_->launch(), "wgmma"), Error);
  const Cache cache({2, 1, 8, {64}}, 1);
  const DeviceRows q(DType::kBF16, 4, 16);
  EXPECT_THROW(cuda::attention_prompt({q.matrix(), 0, 61, 1.0f, 2, out.matrix()}, cache.kv(), stream_->launch()),
               Error);
  stream_->synchronize();
}

}  // namespace
}  // namespace halftone
