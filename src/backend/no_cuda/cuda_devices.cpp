#include "ops/cuda_devices.h"

#include "base/error.h"

namespace halftone {

bool built_with_cuda() { return false; }

std::vector<CudaDevice> list_cuda_devices() {
  fail("cuda", "this program was built without CUDA; build it where there is a CUDA toolkit (HALFTONE_CUDA=on)");
}

CudaRoofline measure_cuda_roofline() {
  list_cuda_devices();
  return {};
}

}  // namespace halftone
