#pragma once

#include <functional>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

// Milliseconds on the device of each of `repeats` runs of `work`, after `warm_up` unmeasured ones; the median of them.
double median_milliseconds(cudaStream_t stream, int warm_up, int repeats, const std::function<void()>& work);
inline double median_milliseconds(const DeviceStream& stream, int warm_up, int repeats,
                                  const std::function<void()>& work) {
  return median_milliseconds(stream.launch().stream, warm_up, repeats, work);
}

}  // namespace halftone::cuda
