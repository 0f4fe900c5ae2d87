#include "backend/cuda/op_profile.h"

#include <algorithm>

#include "backend/cuda/cuda_error.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda profile";

cudaEvent_t mark(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), kWhere);
  check(cudaEventRecord(event, stream), kWhere);
  return event;
}

}  // namespace

OpProfile::~OpProfile() {
  for (const Measured& one : measured_) {
    if (one.first) cudaEventDestroy(one.first);
    if (one.last) cudaEventDestroy(one.last);
  }
}

std::size_t OpProfile::begin(std::string_view op, double bytes, double flops, cudaStream_t stream) {
  measured_.push_back({std::string(op), bytes, flops, mark(stream), nullptr});
  return measured_.size() - 1;
}

void OpProfile::end(std::size_t number, cudaStream_t stream) { measured_.at(number).last = mark(stream); }

std::vector<DeviceOpTime> OpProfile::take() {
  std::vector<DeviceOpTime> ops;
  for (Measured& one : measured_) {
    if (!one.last) continue;
    float ms = 0;
    check(cudaEventSynchronize(one.last), kWhere);
    check(cudaEventElapsedTime(&ms, one.first, one.last), kWhere);
    auto found = std::find_if(ops.begin(), ops.end(), [&](const DeviceOpTime& op) { return op.op == one.op; });
    if (found == ops.end()) found = ops.insert(ops.end(), {one.op, 0, 0, 0, 0});
    ++found->calls;
    found->seconds += ms * 1e-3;
    found->bytes += one.bytes;
    found->flops += one.flops;
    cudaEventDestroy(std::exchange(one.first, nullptr));
    cudaEventDestroy(std::exchange(one.last, nullptr));
  }
  measured_.clear();
  return ops;
}

ProfiledOp::ProfiledOp(const Launch& launch, std::string_view op, double bytes, double flops)
    : profile_(launch.profile), stream_(launch.stream) {
  if (profile_) number_ = profile_->begin(op, bytes, flops, stream_);
}

ProfiledOp::~ProfiledOp() {
  if (!profile_) return;
  try {
    profile_->end(number_, stream_);
  } catch (...) {  // the device failed: the next call on the stream says so
  }
}

}  // namespace halftone::cuda
