#pragma once
// What calibration remembers of one tensor that linear layers read, and of the keys and values of one layer.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "quant/histogram.h"
#include "tensor/tensor.h"

namespace halftone {

// What a token stands for: text (chat markup included), or a piece of a picture. Inside the vision tower all is
// picture.
enum class TokenClass : std::uint8_t { kText, kPicture };
inline constexpr std::array<std::string_view, 2> kTokenClassNames{"text", "picture"};

struct ChannelStatistics {
  std::int64_t tokens = 0;
  std::vector<float> absmax;    // [inputs] largest |x| of each channel
  std::vector<double> abs_sum;  // [inputs] sum of |x| over all tokens, added in the order of the tokens

  float tensor_absmax() const { return absmax.empty() ? 0 : *std::max_element(absmax.begin(), absmax.end()); }
  double mean_abs(std::size_t channel) const { return tokens > 0 ? abs_sum[channel] / static_cast<double>(tokens) : 0; }
};

// Of all tokens, and of each class apart.
struct InputStatistics : ChannelStatistics {
  Tensor rows;                                // [samples, inputs] f32: inputs of some tokens, for output errors
  Tensor clip_rows{};                         // rows as ModelOpt's awq_full sees them when it clips, or undefined
  std::vector<float> row_weights;             // [samples] how much each row counts in AWQ's loss; empty: all alike
  std::vector<float> sample_mean_sum;         // [inputs] sum over samples of mean |x| of their tokens; or empty
  std::int64_t samples = 0;                   // that were added to it
  std::optional<float> amax;                  // largest |x| after scaling, where it is known apart from absmax
  std::array<ChannelStatistics, 2> by_class;  // by TokenClass
  Histogram histogram;                        // of |x|, all tokens and channels

  const ChannelStatistics& of(TokenClass token_class) const { return by_class[static_cast<std::size_t>(token_class)]; }
  float tensor_absmax() const { return amax ? *amax : ChannelStatistics::tensor_absmax(); }
  // Mean |x| where a sample counts once, however many tokens it has, as ModelOpt's AWQ has it; of all tokens where the
  // samples are not known.
  float sample_mean_abs(std::size_t channel) const {
    if (samples == 0) return static_cast<float>(mean_abs(channel));
    return sample_mean_sum[channel] / static_cast<float>(samples);
  }
  // Channels that are zero for every token.
  std::int64_t dead_channels() const { return std::count(absmax.begin(), absmax.end(), 0.0f); }
};

// Makes room for `inputs` channels.
InputStatistics empty_statistics(std::size_t inputs);

// Adds one sample. x: [tokens, inputs] f32, finite or not (what is not finite stays in abs_sum and is left out of the
// histogram). classes: one for every token, or fewer that are spread evenly (each stands for as many rows of x). The
// result does not depend on the number of threads.
void add_sample(const Tensor& x, std::span<const TokenClass> classes, ThreadPool& pool, InputStatistics& statistics);

enum class Scaling : std::uint8_t { kTimes, kDivided };

// The statistics of x * factors or x / factors, [inputs]. `amax` is unset. Different factors move channels between the
// histogram's bins: it is counted anew, from the rows that were kept.
InputStatistics scaled(const InputStatistics& statistics, std::span<const float> factors, Scaling scaling);

// Largest magnitudes of what one layer puts into the cache. K is taken after RoPE.
struct KvStatistics {
  std::vector<float> k;           // [kv_heads]
  std::vector<float> k_debiased;  // [kv_heads] of K without its rotated bias
  std::vector<float> v;           // [kv_heads * head_dim], by channel: smoothing divides channels of V
};

}  // namespace halftone
