#pragma once
// What calibration remembers of one tensor that linear layers read, and of the keys and values of one layer.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "tensor/tensor.h"

namespace halftone {

struct InputStatistics {
  std::int64_t tokens = 0;
  std::vector<float> absmax;       // [inputs] largest |x| of each channel
  std::vector<double> abs_sum;     // [inputs] sum of |x| over all tokens
  Tensor rows;                     // [samples, inputs] f32: inputs of some tokens, for output errors
  std::vector<float> row_weights;  // [samples] how much each row counts in AWQ's loss; empty: all alike
  std::optional<float> amax;       // largest |x| after scaling, where it is known apart from absmax

  float tensor_absmax() const {
    if (amax) return *amax;
    return absmax.empty() ? 0 : *std::max_element(absmax.begin(), absmax.end());
  }
  double mean_abs(std::size_t channel) const { return tokens > 0 ? abs_sum[channel] / static_cast<double>(tokens) : 0; }
};

// Largest magnitudes of what one layer puts into the cache. K is taken after RoPE.
struct KvStatistics {
  std::vector<float> k;           // [kv_heads]
  std::vector<float> k_debiased;  // [kv_heads] of K without its rotated bias
  std::vector<float> v;           // [kv_heads * head_dim], by channel: smoothing divides channels of V
};

}  // namespace halftone
