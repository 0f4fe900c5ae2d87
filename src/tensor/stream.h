#pragma once
// Where work runs: a device and its threads. Ops take one as their last argument.

#include "base/thread_pool.h"

namespace halftone {

enum class Device { kCpu, kCuda };

struct Stream {
  ThreadPool* pool = nullptr;  // never null on kCpu
  Device device = Device::kCpu;
};

// The stream of this process's own pool (all cores), made at first use.
Stream& default_stream();

}  // namespace halftone
