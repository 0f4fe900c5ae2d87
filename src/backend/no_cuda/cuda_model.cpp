#include "ops/cuda_devices.h"
#include "ops/device_model.h"

namespace halftone {

std::shared_ptr<const DeviceModel> make_cuda_model(const DeviceDecoderSource&, const DeviceVisionSource&, std::int64_t,
                                                   int) {
  list_cuda_devices();  // throws
  return nullptr;
}

}  // namespace halftone
