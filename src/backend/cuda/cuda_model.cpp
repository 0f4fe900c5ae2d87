// make_cuda_model(): the weights of a model on the first device.
#include "backend/cuda/device_runner.h"
#include "ops/cuda_devices.h"

namespace halftone {
namespace {

// Weights of a small model fit in one; a large one takes some.
constexpr std::size_t kSlabBytes = std::size_t{256} << 20;

// What the kernels of decoding ask for, at most: six stages of sixteen warps and the inputs of a token or two.
constexpr int kSharedBytes = 144 << 10;

CudaDevice first_device() {
  CudaDevice device = list_cuda_devices().front();
  int shared = 0;
  cuda::check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "cuda model");
  require(shared >= kSharedBytes, "cuda model", "{}: expected {} KiB of shared memory a block, found {} KiB",
          device.name, kSharedBytes >> 10, shared >> 10);
  return device;
}

class CudaModel final : public DeviceModel {
 public:
  CudaModel(const DeviceDecoderSource& decoder, const DeviceVisionSource& vision, std::int64_t most_patches)
      : device_(first_device()),
        weights_(std::make_shared<cuda::ModelWeights>(
            cuda::DeviceArena::growing("weights", kSlabBytes),
            cuda::DeviceArena::growing("vision workspace", cuda::DeviceArena::kAlignment))) {
    const cuda::DeviceStream stream;
    weights_->decoder = std::make_unique<cuda::DeviceDecoder>(decoder, weights_->arena, stream);
    weights_->vision =
        std::make_unique<cuda::VisionTower>(vision, most_patches, weights_->arena, weights_->vision_workspace, stream);
    weights_->patches_per_token = vision.merge;
    // uploads go through the default stream, which runners' streams do not wait for
    cuda::check(cudaDeviceSynchronize(), "cuda model");
  }

  std::unique_ptr<DeviceRunner> make_runner(const DeviceLimits& limits) const override {
    return std::make_unique<cuda::CudaRunner>(weights_, limits);
  }
  std::string device_name() const override { return device_.name; }

 private:
  CudaDevice device_;
  std::shared_ptr<cuda::ModelWeights> weights_;
};

}  // namespace

std::shared_ptr<const DeviceModel> make_cuda_model(const DeviceDecoderSource& decoder, const DeviceVisionSource& vision,
                                                   std::int64_t most_patches) {
  return std::make_shared<CudaModel>(decoder, vision, most_patches);
}

}  // namespace halftone
