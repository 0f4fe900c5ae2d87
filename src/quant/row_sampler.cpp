#include "quant/row_sampler.h"

namespace halftone {

void SampleRows::keep(const Tensor& x, Tensor& kept, std::vector<float>& weights) const {
  const std::int64_t width = x.dim(1), stride = x.dim(0) / rows;
  for (const RowChoice& choice : choices) {
    std::copy_n(x.data<float>() + choice.row * stride * width, width, kept.data<float>() + choice.slot * width);
    weights[static_cast<std::size_t>(choice.slot)] = 1.0f / static_cast<float>(x.dim(0));
  }
}

SampleRows RowSampler::draw(std::int64_t rows) {
  SampleRows sample{rows, {}};
  for (std::int64_t row = 0; row < rows; ++row, ++seen_) {
    const auto drawn = static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(seen_ + 1)));
    const std::int64_t slot = seen_ < slots_ ? seen_ : drawn;
    if (slot < slots_) sample.choices.push_back({row, slot});
  }
  return sample;
}

}  // namespace halftone
