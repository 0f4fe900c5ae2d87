// How far checkpoints on a GPU are from themselves on the CPU (numerics bf16), a JSON line each:
//   compare_devices CHECKPOINT...
#include "tests/runtime/compare_devices.h"

#include <cstdio>

int main(int argc, char** argv) {
  int failed = 0;
  for (int i = 1; i < argc; ++i) {
    try {
      const halftone::testing::DeviceDifference d =
          halftone::testing::compare_engines(argv[i], halftone::testing::on_gpu(), 12);
      const halftone::testing::DeviceDifference f32 = halftone::testing::compare_engines(argv[i], {}, 12);
      std::printf(
          "{\"checkpoint\":\"%s\",\"tokens\":%lld,\"mean_kl\":%.3g,\"largest_kl\":%.3g,\"same_first\":%lld,"
          "\"clear_flips\":%lld,\"cpu_f32_mean_kl\":%.3g,\"cpu_f32_clear_flips\":%lld}\n",
          argv[i], static_cast<long long>(d.tokens), d.mean_kl, d.largest_kl, static_cast<long long>(d.same_first),
          static_cast<long long>(d.clear_flips), f32.mean_kl, static_cast<long long>(f32.clear_flips));
    } catch (const std::exception& error) {
      std::printf("{\"checkpoint\":\"%s\",\"error\":\"%s\"}\n", argv[i], error.what());
      failed = 1;
    }
    std::fflush(stdout);
  }
  return failed;
}
