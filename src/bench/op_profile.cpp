#include "bench/op_profile.h"

#include <algorithm>

namespace halftone {

std::vector<DeviceOpTime> profile_workload(const std::shared_ptr<const Engine>& engine, const Workload& workload,
                                           std::int64_t batch, int threads) {
  const auto session = Session::create(engine, threads);
  run_repeat(*session, workload, 0, batch);
  session->start_profile();
  run_repeat(*session, workload, 1, batch);
  std::vector<DeviceOpTime> ops = session->take_profile();
  std::stable_sort(ops.begin(), ops.end(),
                   [](const DeviceOpTime& a, const DeviceOpTime& b) { return a.seconds > b.seconds; });
  return ops;
}

double share_of_roofline(const DeviceOpTime& op, const CudaRoofline& roofline) {
  if (op.seconds <= 0) return 0;
  const double flops = op.op.find("native int8") != std::string::npos   ? roofline.int8_ops
                       : op.op.find("native e4m3") != std::string::npos ? roofline.e4m3_flops
                                                                        : roofline.bf16_flops;
  const double reading = roofline.read_bytes > 0 ? op.bytes / roofline.read_bytes : 0;
  const double multiplying = flops > 0 ? op.flops / flops : 0;
  return std::max(reading, multiplying) / op.seconds;
}

Json to_json(const std::vector<DeviceOpTime>& ops, const CudaRoofline& roofline) {
  Json list = Json::array();
  for (const DeviceOpTime& op : ops) {
    list.push_back({{"op", op.op},
                    {"calls", op.calls},
                    {"ms", op.seconds * 1e3},
                    {"bytes_per_s", op.bytes / op.seconds},
                    {"flops_per_s", op.flops / op.seconds},
                    {"of_roofline", share_of_roofline(op, roofline)}});
  }
  return list;
}

Json to_json(const CudaRoofline& roofline) {
  return {{"copy_bytes_per_s", roofline.copy_bytes},
          {"read_bytes_per_s", roofline.read_bytes},
          {"bf16_flops", roofline.bf16_flops},
          {"e4m3_flops", roofline.e4m3_flops},
          {"int8_ops", roofline.int8_ops}};
}

}  // namespace halftone
