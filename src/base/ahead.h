#pragma once
// What is needed one after another, made on other threads before it is asked for.

#include <cstdint>
#include <deque>
#include <functional>
#include <future>

namespace halftone {

// Calls make(0), make(1), ... make(count - 1), up to `ahead` of them before their results are taken and each on a thread of
// its own; make must allow that. With ahead = 0 it is called when its result is taken, on that thread.
template <typename T>
class Ahead {
 public:
  Ahead(std::int64_t count, std::int64_t ahead, std::function<T(std::int64_t)> make)
      : count_(count), ahead_(ahead), make_(std::move(make)) {
    start();
  }
  // Waits for what was begun.
  ~Ahead() = default;
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  // The next result, in order; `count` of them. Throws what make threw.
  T take() {
    if (ahead_ == 0) return make_(begun_++);
    T result = under_way_.front().get();
    under_way_.pop_front();
    start();
    return result;
  }

 private:
  void start() {
    for (; begun_ < count_ && static_cast<std::int64_t>(under_way_.size()) < ahead_; ++begun_) {
      under_way_.push_back(std::async(std::launch::async, [this, i = begun_] { return make_(i); }));
    }
  }

  std::int64_t count_, ahead_, begun_ = 0;
  std::function<T(std::int64_t)> make_;
  std::deque<std::future<T>> under_way_;  // the last member: its destructor waits for those who use the others
};

}  // namespace halftone
