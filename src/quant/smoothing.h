#pragma once
// Moving scale between an activation's channels and the weights that read them, without changing the function:
//   y = W x = (W * s) (x / s),   x / s made by dividing what writes x: a norm's weight, or rows and bias of a linear
//   layer.
//
// Channels are those of the writer. Where query heads share a key-value head, several channels of o_proj's input come
// from one channel of v_proj and share its factor.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/format_names.h"

namespace halftone {

// One of the layers that read an input, to searches for factors.
struct InputReader {
  std::string name;
  const Tensor* weight = nullptr;  // [outputs, inputs] f32
  LinearFormat format;
};

// Which channel of the writer each input channel comes from.
struct ChannelMap {
  std::int64_t writer_channels = 0;
  std::vector<std::int32_t> writer_of;  // [inputs]
};

ChannelMap identity_channels(std::int64_t channels);
// o_proj's input [heads * head_dim], written by v_proj's output [kv_heads * head_dim].
ChannelMap grouped_head_channels(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim);

// [inputs] -> [writer channels]: the largest, and the mean, of the input channels that share a writer's channel.
std::vector<float> combine_max(std::span<const float> values, const ChannelMap& map);
std::vector<float> combine_mean(std::span<const float> values, const ChannelMap& map);
// [writer channels] -> [inputs]
std::vector<float> spread(std::span<const float> values, const ChannelMap& map);

// Largest |W[:, c]| of each column over all rows. weight: [rows, cols] f32.
std::vector<float> column_absmax(const Tensor& weight);

// W[r, c] *= factors[c], in place. weight: [rows, cols] f32.
void multiply_columns(std::span<const float> factors, Tensor& weight);
// W[r, ...] /= factors[r], in place. weight: [rows, cols] or [rows] f32.
void divide_rows(std::span<const float> factors, Tensor& weight);

// Moves each factor by at most half a unit in the last place of `dtype`, so that vector[c] / factor[c] is a number that
// `dtype` holds: what is stored after folding is then exact, and W * s undoes precisely what was stored.
// vector: [channels] f32 values of a stored norm weight or bias, which `dtype` stores. Factors of channels where that
// is impossible (zero, or a quotient that underflows) stay as they are.
void snap_factors(const Tensor& vector, DType dtype, std::vector<float>& factors);

}  // namespace halftone
