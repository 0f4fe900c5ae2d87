#include "quant/smoothing.h"

#include <algorithm>
#include <cmath>

namespace halftone {
namespace {

std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }

void check_map(std::span<const float> values, std::size_t expected) {
  require(values.size() == expected, "smoothing", "expected {} channels, got {}", expected, values.size());
}

}  // namespace

ChannelMap identity_channels(std::int64_t channels) {
  ChannelMap map{channels, std::vector<std::int32_t>(to_size(channels))};
  for (std::size_t c = 0; c < map.writer_of.size(); ++c) map.writer_of[c] = static_cast<std::int32_t>(c);
  return map;
}

ChannelMap grouped_head_channels(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) {
  require(kv_heads > 0 && heads % kv_heads == 0, "smoothing", "expected heads in multiples of {}, got {}", kv_heads,
          heads);
  ChannelMap map{kv_heads * head_dim, std::vector<std::int32_t>(to_size(heads * head_dim))};
  const std::int64_t share = heads / kv_heads;
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t d = 0; d < head_dim; ++d) {
      map.writer_of[to_size(h * head_dim + d)] = static_cast<std::int32_t>(h / share * head_dim + d);
    }
  }
  return map;
}

std::vector<float> combine_max(std::span<const float> values, const ChannelMap& map) {
  check_map(values, map.writer_of.size());
  std::vector<float> combined(to_size(map.writer_channels), 0.0f);
  for (std::size_t c = 0; c < values.size(); ++c) {
    float& most = combined[to_size(map.writer_of[c])];
    most = std::max(most, values[c]);
  }
  return combined;
}

std::vector<float> combine_mean(std::span<const float> values, const ChannelMap& map) {
  check_map(values, map.writer_of.size());
  std::vector<double> sum(to_size(map.writer_channels));
  std::vector<std::int64_t> count(sum.size());
  for (std::size_t c = 0; c < values.size(); ++c) {
    sum[to_size(map.writer_of[c])] += values[c];
    ++count[to_size(map.writer_of[c])];
  }
  std::vector<float> mean(sum.size(), 0.0f);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    if (count[c] > 0) mean[c] = static_cast<float>(sum[c] / static_cast<double>(count[c]));
  }
  return mean;
}

std::vector<float> spread(std::span<const float> values, const ChannelMap& map) {
  check_map(values, to_size(map.writer_channels));
  std::vector<float> inputs(map.writer_of.size());
  for (std::size_t c = 0; c < inputs.size(); ++c) inputs[c] = values[to_size(map.writer_of[c])];
  return inputs;
}

std::vector<float> column_absmax(const Tensor& weight) {
  const std::int64_t rows = weight.dim(0), cols = weight.dim(1);
  std::vector<float> most(to_size(cols), 0.0f);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = weight.data<float>() + r * cols;
    for (std::int64_t c = 0; c < cols; ++c) most[to_size(c)] = std::max(most[to_size(c)], std::abs(row[c]));
  }
  return most;
}

void multiply_columns(std::span<const float> factors, Tensor& weight) {
  check_map(factors, to_size(weight.dim(1)));
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * weight.dim(1);
    for (std::int64_t c = 0; c < weight.dim(1); ++c) row[c] *= factors[to_size(c)];
  }
}

void divide_rows(std::span<const float> factors, Tensor& weight) {
  check_map(factors, to_size(weight.dim(0)));
  const std::int64_t cols = weight.dim(0) > 0 ? weight.numel() / weight.dim(0) : 0;
  for (std::int64_t r = 0; r < weight.dim(0); ++r) {
    float* row = weight.data<float>() + r * cols;
    for (std::int64_t c = 0; c < cols; ++c) row[c] /= factors[to_size(r)];
  }
}

void snap_factors(const Tensor& vector, DType dtype, std::vector<float>& factors) {
  check_map(factors, to_size(vector.numel()));
  if (dtype == DType::kF32) return;
  Tensor quotients = vector.clone();
  divide_rows(factors, quotients);
  const Tensor stored = to_f32(from_f32(quotients, dtype));
  for (std::size_t c = 0; c < factors.size(); ++c) {
    const float factor = vector.data<float>()[c] / stored.data<float>()[c];
    // a quotient among the subnormals may have been moved far: leave such a channel alone
    if (std::isfinite(factor) && std::abs(factor - factors[c]) <= factors[c] * 0x1p-7f) factors[c] = factor;
  }
}

}  // namespace halftone
