#include "backend/cuda/cuda_error.h"

#include "base/error.h"

namespace halftone::cuda {
namespace {

std::string_view explain(cudaError_t status) {
  switch (status) {
    case cudaErrorInsufficientDriver:
      return "there is no NVIDIA driver, or it is older than this program's CUDA runtime; install a newer driver";
    case cudaErrorNoDevice:
      return "there is no CUDA device; is one hidden by CUDA_VISIBLE_DEVICES?";
    case cudaErrorMemoryAllocation:
      return "the device's memory is used up; a smaller model or format, fewer sequences or a shorter context need less";
    case cudaErrorNoKernelImageForDevice:
      return "this program holds no code for the device; build it with the device's HALFTONE_CUDA_ARCHITECTURES";
    case cudaErrorDevicesUnavailable:
      return "the device is busy: another process holds it exclusively";
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorContained:
      return "the device was lost to a hardware error; what was saved before stays valid";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
      return "a kernel failed and the device cannot be used by this process any more: a fault of this program, please "
             "report it";
    default:
      return "the call failed";
  }
}

}  // namespace

void check(cudaError_t status, std::string_view where) {
  if (status == cudaSuccess) return;
  fail(where, "{} ({}: {})", explain(status), cudaGetErrorName(status), cudaGetErrorString(status));
}

}  // namespace halftone::cuda
