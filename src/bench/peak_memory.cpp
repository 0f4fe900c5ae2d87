#include <fstream>
#include <string>

#include "base/error.h"
#include "bench/workload.h"

namespace halftone {

std::int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;  // "VmHWM:     1234 kB"
  }
  fail("peak memory", "/proc/self/status: field 'VmHWM' is missing");
}

bool reset_peak_resident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5";
  file.flush();
  return file.good();
}

}  // namespace halftone
