#pragma once
// What this machine can do at most, measured: benchmarks print their results as shares of it.

#include <vector>

#include "base/thread_pool.h"

namespace halftone {

struct MachineLimits {
  double read_bytes = 0;  // bytes/s read from memory by all threads of the pool
  double f32_flops = 0;   // f32 operations/s (a fused multiply-add is two), all threads
  double int8_flops = 0;  // int8 x int8 + int32 operations/s by the best instruction of the kernels, all threads
};

// Which of several timings counts: the median on a quiet machine; the shortest on one that others use, too.
enum class Timing { kMedian, kBest };
double choose_seconds(std::vector<double> seconds, Timing timing);

MachineLimits measure_machine(ThreadPool& pool, Timing timing);

// "N_AVX2", ...: the instruction set of the kernels.
const char* instruction_set();

}  // namespace halftone
