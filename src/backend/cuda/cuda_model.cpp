// make_cuda_model(): the weights of a model on the first device.
#include "backend/cuda/device_runner.h"
#include "backend/cuda/device_uploader.h"
#include "base/timer.h"
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
  CudaModel(const DeviceDecoderSource& decoder, const DeviceVisionSource& vision, std::int64_t most_patches,
            int threads)
      : device_(first_device()),
        weights_(std::make_shared<cuda::ModelWeights>(cuda::DeviceArena::growing("weights", kSlabBytes))) {
    const cuda::DeviceStream stream;
    const Timer timer;  // the device is awake
    cuda::DeviceUploader uploader(stream, threads);
    weights_->decoder = std::make_unique<cuda::DeviceDecoder>(decoder, weights_->arena, uploader);
    weights_->vision = std::make_unique<cuda::VisionTower>(vision, most_patches, weights_->arena, uploader);
    weights_->patches_per_token = vision.merge;
    stream.synchronize();  // runners' streams do not wait for this one
    loading_ = {uploader.bytes(), timer.seconds()};
  }

  std::unique_ptr<DeviceRunner> make_runner(const DeviceLimits& limits) const override {
    return std::make_unique<cuda::CudaRunner>(weights_, limits);
  }
  std::string device_name() const override { return device_.name; }
  DeviceLoading loading() const override { return loading_; }

 private:
  CudaDevice device_;
  std::shared_ptr<cuda::ModelWeights> weights_;
  DeviceLoading loading_;
};

}  // namespace

std::shared_ptr<const DeviceModel> make_cuda_model(const DeviceDecoderSource& decoder, const DeviceVisionSource& vision,
                                                   std::int64_t most_patches, int threads) {
  return std::make_shared<CudaModel>(decoder, vision, most_patches, threads);
}

}  // namespace halftone
