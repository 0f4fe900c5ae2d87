#pragma once
// Pillow's antialiased bicubic resampling on 8-bit RGB, bit for bit (two passes of fixed-point sums, 22 fractional
// bits).

#include "base/thread_pool.h"
#include "vision/picture.h"

namespace halftone {

// Source: Pillow src/libImaging/Resample.c, filter BICUBIC (a = -0.5), support 2. Throws Error unless sizes are
// positive.
Picture resize_bicubic(const Picture& picture, std::int64_t width, std::int64_t height, ThreadPool& pool);

// The same by plain loops: what resize_bicubic is tested against.
Picture resize_bicubic_reference(const Picture& picture, std::int64_t width, std::int64_t height);

}  // namespace halftone
