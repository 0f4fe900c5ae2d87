#pragma once
// Threads for data-parallel loops. Work is split by index only, so that results do not depend on the number of threads.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace halftone {

class ThreadPool {
 public:
  // threads = 0: one for each core that this process may use. The calling thread counts as one of them.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i) once for each i in [0, count), in any order, on any thread, and returns when all are done. The first
  // exception is rethrown here. A call from inside a task runs serially. One caller at a time.
  void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task);

 private:
  void work(std::stop_token stop);
  void take_tasks();

  std::vector<std::jthread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<int> busy_{0};
  std::atomic<std::int64_t> next_{0};
  std::int64_t count_ = 0;
  const std::function<void(std::int64_t)>* task_ = nullptr;
  std::exception_ptr error_;
};

}  // namespace halftone
