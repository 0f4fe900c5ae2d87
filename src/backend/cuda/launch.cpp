#include "backend/cuda/launch.h"

#include "backend/cuda/cuda_error.h"

namespace halftone::cuda {

DeviceStream::DeviceStream() {
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "cuda stream");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cuda stream");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cuda stream");
  overlap_ = major >= 9;
}

DeviceStream::~DeviceStream() { cudaStreamDestroy(stream_); }

void DeviceStream::synchronize() const { check(cudaStreamSynchronize(stream_), "cuda stream"); }

DeviceGraph::DeviceGraph(const DeviceStream& stream, const std::function<void(const Launch&)>& work) {
  const Launch launch = stream.launch();
  cudaGraph_t recorded = nullptr;
  check(cudaStreamBeginCapture(launch.stream, cudaStreamCaptureModeThreadLocal), "cuda graph");
  try {
    work(launch);
  } catch (...) {
    cudaStreamEndCapture(launch.stream, &recorded);
    cudaGraphDestroy(recorded);
    throw;
  }
  check(cudaStreamEndCapture(launch.stream, &recorded), "cuda graph");
  const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
  cudaGraphDestroy(recorded);
  check(status, "cuda graph");
}

DeviceGraph::~DeviceGraph() { cudaGraphExecDestroy(graph_); }

void DeviceGraph::run(const DeviceStream& stream) const {
  check(cudaGraphLaunch(graph_, stream.launch().stream), "cuda graph");
}

}  // namespace halftone::cuda
