#include "eval/runner.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace halftone {

namespace {

// Samples of one picture, in the order of their first appearance.
std::vector<std::span<const Sample* const>> group_by_picture(std::vector<const Sample*>& samples) {
  const auto same = [](const Sample* a, const Sample* b) { return !a->pictures.empty() && a->pictures == b->pictures; };
  std::stable_sort(samples.begin(), samples.end(),
                   [](const Sample* a, const Sample* b) { return a->pictures < b->pictures; });
  std::vector<std::span<const Sample* const>> groups;
  for (std::size_t begin = 0, end = 0; begin < samples.size(); begin = end) {
    for (end = begin + 1; end < samples.size() && same(samples[begin], samples[end]);) ++end;
    groups.push_back(std::span(samples).subspan(begin, end - begin));
  }
  return groups;
}

class Run {
 public:
  Run(std::span<const Sample* const> samples, const std::function<Delivery(Session&, const Sample&)>& work,
      const RunOptions& options)
      : samples_(samples.begin(), samples.end()), groups_(group_by_picture(samples_)), work_(work), options_(options) {}

  bool operator()(const SessionFactory& sessions) {
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    const auto wanted = options_.workers > 0 ? static_cast<std::size_t>(options_.workers) : std::size_t{cores};
    {
      std::vector<std::jthread> workers;
      for (std::size_t i = 0; i < std::min(wanted, groups_.size()); ++i)
        workers.emplace_back([&] { take_groups(sessions); });
    }
    if (error_) std::rethrow_exception(error_);
    return done_ == samples_.size();
  }

 private:
  bool is_stopped() const { return failed_ || options_.stop.stop_requested(); }

  void take_groups(const SessionFactory& sessions) {
    try {
      const std::unique_ptr<Session> session = sessions();
      for (std::size_t group = next_++; group < groups_.size(); group = next_++) {
        for (const Sample* sample : groups_[group]) {
          if (is_stopped()) return;
          deliver(work(*session, *sample));
        }
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      failed_ = true;
    }
  }

  // An error names the sample that met it.
  Delivery work(Session& session, const Sample& sample) const {
    try {
      return work_(session, sample);
    } catch (const Error& error) {
      fail(sample.id, "{}", error.what());
    }
  }

  void deliver(const Delivery& delivery) {
    const std::lock_guard lock(mutex_);
    if (failed_ && error_) return;
    delivery();
    ++done_;
    if (options_.progress) {
      options_.progress(options_.what, static_cast<std::int64_t>(done_), static_cast<std::int64_t>(samples_.size()));
    }
  }

  std::vector<const Sample*> samples_;
  std::vector<std::span<const Sample* const>> groups_;
  const std::function<Delivery(Session&, const Sample&)>& work_;
  const RunOptions& options_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards what follows, and the deliveries
  std::exception_ptr error_;
  std::size_t done_ = 0;
};

}  // namespace

bool run_each(const SessionFactory& sessions, std::span<const Sample* const> samples,
              const std::function<Delivery(Session&, const Sample&)>& work, const RunOptions& options) {
  return Run(samples, work, options)(sessions);
}

std::vector<const Sample*> samples_to_do(const TaskData& data, const std::function<bool(const std::string&)>& is_done) {
  std::vector<const Sample*> samples;
  for (const Sample& sample : data.samples) {
    if (!is_done(sample.id)) samples.push_back(&sample);
  }
  return samples;
}

}  // namespace halftone
