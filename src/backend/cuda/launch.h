#pragma once
// Where kernels go: a stream of the device, and graphs captured from it.

#include <cuda_runtime_api.h>

#include <functional>

namespace halftone::cuda {

// The queue that kernels are put on. With `overlap` a kernel may begin before the one before it ends (programmatic
// dependent launch, compute capability 9.0 and up): it reads its weights early and waits before it touches anything that
// an earlier kernel writes. Every kernel of src/backend/cuda keeps that rule.
class OpProfile;
struct Launch {
  cudaStream_t stream = nullptr;
  bool overlap = false;
  OpProfile* profile = nullptr;  // who times the ops, or null
};

class DeviceStream {
 public:
  DeviceStream();
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  Launch launch() const { return {stream_, overlap_ && !profile_, profile_}; }
  // From now on `profile` (null: nobody) times the ops, which then do not overlap. It must outlive the stream.
  void watch(OpProfile* profile) { profile_ = profile; }
  // Waits for all that was put on it. Throws Error when a kernel failed.
  void synchronize() const;

 private:
  cudaStream_t stream_ = nullptr;
  bool overlap_ = false;
  OpProfile* profile_ = nullptr;
};

// A sequence of launches that starts as one. What the launches point to must outlive it.
class DeviceGraph {
 public:
  // Records what `work` launches, without running it. Throws Error when something in it cannot be recorded.
  DeviceGraph(const DeviceStream& stream, const std::function<void(const Launch&)>& work);
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  void run(const DeviceStream& stream) const;

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace halftone::cuda
