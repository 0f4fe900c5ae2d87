#include "backend/cuda/event_timer.h"

#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_error.h"

namespace halftone::cuda {
namespace {

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "cuda event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

double median_milliseconds(cudaStream_t stream, int warm_up, int repeats, const std::function<void()>& work) {
  for (int i = 0; i < warm_up; ++i) work();
  const Event begin, end;
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    check(cudaEventRecord(begin.get(), stream), "cuda event");
    work();
    check(cudaEventRecord(end.get(), stream), "cuda event");
    check(cudaEventSynchronize(end.get()), "cuda event");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cuda event");
    times.push_back(milliseconds);
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

}  // namespace halftone::cuda
