#pragma once
// Where a GPU's time goes, op by op, and how near each op is to what the machine can do.

#include "bench/workload.h"
#include "ops/cuda_devices.h"

namespace halftone {

// The ops of one repeat of the workload, after one to warm up, the longest first. Each is timed by itself, so that their sum is
// more than the repeat takes. Throws Error on the CPU.
std::vector<DeviceOpTime> profile_workload(const std::shared_ptr<const Engine>& engine, const Workload& workload,
                                           std::int64_t batch, int threads);

// The least time that the machine needs for an op's bytes, or for its products in the fastest format that the op's name
// says, over the time it took; 0 where neither is known.
double share_of_roofline(const DeviceOpTime& op, const CudaRoofline& roofline);

Json to_json(const std::vector<DeviceOpTime>& ops, const CudaRoofline& roofline);
Json to_json(const CudaRoofline& roofline);

}  // namespace halftone
