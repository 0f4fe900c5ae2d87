#pragma once
// Which rows of the calibration inputs are kept whole: reservoir sampling over all rows of all samples, the same for
// all layers.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/random.h"
#include "tensor/tensor.h"

namespace halftone {

// The rows of one sample that are kept, and where.
struct RowChoice {
  std::int64_t row, slot;
};

struct SampleRows {
  std::int64_t rows = 1;  // of the sample; inputs may have a multiple of it (patches before they are merged)
  std::vector<RowChoice> choices;

  // Copies the chosen rows of x into kept, [slots, width]. weights [slots]: 1 / the rows of x, so that a sample counts
  // once, however many it has.
  void keep(const Tensor& x, Tensor& kept, std::vector<float>& weights) const;
};

class RowSampler {
 public:
  RowSampler(std::int64_t slots, std::uint64_t seed) : slots_(slots), random_(seed) {}

  // Call once for each sample, in order. Later samples take over slots of earlier ones.
  SampleRows draw(std::int64_t rows);
  std::int64_t slots() const { return slots_; }
  // Slots that are filled.
  std::int64_t filled() const { return std::min(slots_, seen_); }

 private:
  std::int64_t slots_, seen_ = 0;
  Random random_;
};

}  // namespace halftone
