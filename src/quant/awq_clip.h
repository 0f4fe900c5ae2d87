#pragma once
// AWQ's clipping as ModelOpt's awq_clip does it, for files equal to its own: the largest magnitude that a scale is made
// for shrinks to 0.5, 0.55 .. 1 of the weights' own, and the share with the least output error stays.
//
//   INT4 in groups, each group by itself:  loss = sum over tokens of weight * R(R(sum R(x w)) - R(sum R(x Q(w))))^2
//   NVFP4, one share for the whole weight: loss = mean over outputs of the same with whole outputs
//
// R: rounding to the checkpoint's dtype, sums in f32. (quant/clip.h has the search that follows AutoAWQ.)
// Source: modelopt 0.47 awq_clip.

#include <array>
#include <string>
#include <vector>

#include "quant/statistics.h"
#include "tensor/qtensor.h"
#include "tensor/stream.h"

namespace halftone {

constexpr std::array<float, 11> kClipRatios{0.5f, 0.55f, 0.6f, 0.65f, 0.7f, 0.75f, 0.8f, 0.85f, 0.9f, 0.95f, 1.0f};

struct AwqClipLinear {
  std::string name;
  const Tensor* weight = nullptr;  // [outputs, inputs] f32, values that dtype holds
  DType dtype = DType::kBF16;      // of the checkpoint
  DType amax_dtype =
      DType::kBF16;  // in which the tool keeps largest magnitudes: f32 for INT4 after awq_lite, else dtype
  QuantSpec spec;    // int4 or e2m1, in groups
};

struct AwqClipResult {
  // What the scales are made for: INT4 [outputs * groups], NVFP4 [1].
  std::vector<float> amax;
  std::vector<std::array<double, kClipRatios.size()>> losses;  // of each of them
};

// inputs: of the layer, with rows as it sees them: scaled, in dtype. The tool takes all tokens of a batch for NVFP4, for
// INT4 every n-th of a batch, n = max(1, tokens / 64); each counts 1 / those of its batch. Deterministic for any number
// of threads. Throws Error when shapes do not fit or the format is not one of the two.
AwqClipResult search_awq_clip(const AwqClipLinear& linear, const InputStatistics& inputs, Stream& stream);

}  // namespace halftone
