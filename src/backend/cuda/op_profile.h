#pragma once
// Where the device's time goes: the ops of a stream, each timed by itself.

#include <cuda_runtime_api.h>

#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/launch.h"
#include "ops/device_model.h"

namespace halftone::cuda {

// Collects what ProfiledOp measures. Ops that are watched run one after another, none overlapping the next.
class OpProfile {
 public:
  OpProfile() = default;
  ~OpProfile();
  OpProfile(const OpProfile&) = delete;
  OpProfile& operator=(const OpProfile&) = delete;

  // Begins an op and gives its number; ends that op.
  std::size_t begin(std::string_view op, double bytes, double flops, cudaStream_t stream);
  void end(std::size_t number, cudaStream_t stream);
  // Waits for the stream; sums by op, in the order in which they came first. Forgets what was measured.
  std::vector<DeviceOpTime> take();

 private:
  struct Measured {
    std::string op;
    double bytes = 0, flops = 0;
    cudaEvent_t first = nullptr, last = nullptr;
  };
  std::vector<Measured> measured_;
};

// One op from here to the end of the scope, where launch.profile watches.
//   bytes: read and written at least.  flops: of its products.
class ProfiledOp {
 public:
  ProfiledOp(const Launch& launch, std::string_view op, double bytes, double flops = 0);
  ~ProfiledOp();
  ProfiledOp(const ProfiledOp&) = delete;
  ProfiledOp& operator=(const ProfiledOp&) = delete;

 private:
  OpProfile* profile_;
  cudaStream_t stream_;
  std::size_t number_ = 0;
};

}  // namespace halftone::cuda
