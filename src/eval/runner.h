#pragma once
// Runs samples over several sessions of one engine.

#include <functional>
#include <memory>
#include <span>
#include <stop_token>

#include "base/progress.h"
#include "data/sample.h"
#include "runtime/engine.h"

namespace halftone {

struct RunOptions {
  int workers = 0;       // threads, one session each; 0: one for each core that this process may use
  std::stop_token stop;  // no sample is begun once it is requested; those in flight are finished and delivered
  Progress progress;     // called with results, one thread at a time
  std::string what;      // told to `progress`
};

// One for each worker, made on its thread: [&] { return Session::create(engine, 1); }.
using SessionFactory = std::function<std::unique_ptr<Session>()>;

// What is left to do when a sample is finished; called from one thread at a time, in the order of finishing.
using Delivery = std::function<void()>;

// Calls work(session, sample) once for each sample, all questions on one picture one after another in one session, and
// each Delivery that it returns. True when all are done, false when stopped before. The first exception of any worker
// stops the others and is rethrown; what was finished has been delivered.
bool run_each(const SessionFactory& sessions, std::span<const Sample* const> samples,
              const std::function<Delivery(Session&, const Sample&)>& work, const RunOptions& options);

// The same with a measure and a sink of its results. A result must not depend on the session's past (engine.h says that
// it does not), so neither do the results depend on the number of workers.
template <typename Result>
bool run_samples(const SessionFactory& sessions, std::span<const Sample* const> samples,
                 const std::function<Result(Session&, const Sample&)>& measure,
                 const std::function<void(const Result&)>& sink, const RunOptions& options) {
  const auto work = [&](Session& session, const Sample& sample) -> Delivery {
    return [&sink, result = measure(session, sample)] { sink(result); };
  };
  return run_each(sessions, samples, work, options);
}

// The samples for which `is_done(id)` is false.
std::vector<const Sample*> samples_to_do(const TaskData& data, const std::function<bool(const std::string&)>& is_done);

}  // namespace halftone
