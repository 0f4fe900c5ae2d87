#include "hf/tensor_writer.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include "base/output_file.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "write tensors";

struct Target {
  TensorSlot slot;
  OutputFile* file = nullptr;
  std::int64_t offset = 0;
  bool came = false;
};

struct Job {
  const Target* target = nullptr;
  Tensor tensor;
  std::function<Tensor()> load;  // in place of a tensor: takes no room before its turn
};

void check_tensor(const TensorSlot& slot, const Tensor& tensor) {
  require(tensor.defined() && tensor.dtype() == slot.dtype && tensor.shape() == slot.shape, kWhere,
          "tensor '{}': expected {} {}, got {} {}", slot.name, dtype_name(slot.dtype), to_string(slot.shape),
          dtype_name(tensor.dtype()), to_string(tensor.shape()));
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.raw()), static_cast<std::size_t>(tensor.nbytes())};
}

}  // namespace

struct TensorWriter::State {
  Progress progress;
  std::int64_t total = 0;
  std::vector<std::unique_ptr<OutputFile>> files;
  std::map<std::string, Target, std::less<>> targets;
  std::vector<std::string> order;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Job> values, later;  // the second waits for the first
  std::int64_t queued = 0;        // bytes of values
  std::int64_t done = 0;          // bytes written
  bool ended = false;
  std::exception_ptr error;
  std::jthread thread;  // the last member: it uses all others

  void open(const std::filesystem::path& folder, const FileLayout& layout);
  Target& target_of(std::string_view name);
  void push(Job job);
  std::optional<Job> next_job();
  void work();
  void tell();
  void tell_until_written();
  void end();
};

void TensorWriter::State::open(const std::filesystem::path& folder, const FileLayout& layout) {
  files.push_back(std::make_unique<OutputFile>(folder / layout.name, layout.size));
  files.back()->write_at(0, std::as_bytes(std::span(layout.header)));
  for (const auto& [slot, offset] : layout.places) {
    const bool fresh = targets.emplace(slot.name, Target{slot, files.back().get(), offset, false}).second;
    require(fresh, kWhere, "tensor '{}': given twice", slot.name);
    order.push_back(slot.name);
    total += slot.nbytes();
  }
}

Target& TensorWriter::State::target_of(std::string_view name) {
  const auto it = targets.find(name);
  require(it != targets.end(), kWhere, "tensor '{}': expected one of those laid out", name);
  Target& target = it->second;
  require(!target.came, kWhere, "tensor '{}': given twice", name);
  target.came = true;
  return target;
}

// Waits for something to write; nothing when all is written and no more comes.
std::optional<Job> TensorWriter::State::next_job() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return !values.empty() || !later.empty() || ended; });
  if (error || (values.empty() && later.empty())) return {};
  std::deque<Job>& queue = values.empty() ? later : values;
  Job job = std::move(queue.front());
  queue.pop_front();
  return job;
}

void TensorWriter::State::work() {
  while (std::optional<Job> job = next_job()) {
    const std::int64_t bytes = job->target->slot.nbytes();
    std::exception_ptr failure;
    try {
      if (job->load) job->tensor = job->load();
      check_tensor(job->target->slot, job->tensor);
      job->target->file->write_at(job->target->offset, bytes_of(job->tensor));
    } catch (...) {
      failure = std::current_exception();
    }
    job->tensor = Tensor();  // what waits for room waits for its memory
    const std::lock_guard lock(mutex);
    done += bytes;
    if (!job->load) queued -= bytes;
    if (failure) error = failure;
    changed.notify_all();
  }
}

void TensorWriter::State::push(Job job) {
  const std::int64_t bytes = job.load ? 0 : job.tensor.nbytes();
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return error || queued == 0 || queued + bytes <= kMaxQueued; });
    if (error) std::rethrow_exception(error);
    queued += bytes;
    (job.load ? later : values).push_back(std::move(job));
  }
  changed.notify_all();
}

void TensorWriter::State::tell() {
  if (!progress) return;
  std::unique_lock lock(mutex);
  const std::int64_t written = done;
  lock.unlock();
  progress("writing tensors", written, total);
}

void TensorWriter::State::tell_until_written() {
  std::unique_lock lock(mutex);
  while (!error && done < total) {
    changed.wait_for(lock, std::chrono::milliseconds(200));
    lock.unlock();
    tell();
    lock.lock();
  }
}

// No more will come: the thread writes what waits, and is gone.
void TensorWriter::State::end() {
  {
    const std::lock_guard lock(mutex);
    ended = true;
  }
  changed.notify_all();
  if (thread.joinable()) thread.join();
}

TensorWriter::TensorWriter(const std::filesystem::path& folder, const std::vector<FileLayout>& files, Progress progress)
    : state_(std::make_unique<State>()) {
  state_->progress = std::move(progress);
  for (const FileLayout& file : files) state_->open(folder, file);
  state_->thread = std::jthread([state = state_.get()] { state->work(); });
}

TensorWriter::~TensorWriter() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->values.clear();
    state_->later.clear();
  }
  state_->end();
}

const std::vector<std::string>& TensorWriter::names() const { return state_->order; }

void TensorWriter::write(std::string_view name, const Tensor& tensor) {
  const Target& target = state_->target_of(name);
  check_tensor(target.slot, tensor);
  state_->push({&target, tensor, {}});
}

void TensorWriter::write_later(std::string_view name, std::function<Tensor()> load) {
  state_->push({&state_->target_of(name), {}, std::move(load)});
}

void TensorWriter::tell() const { state_->tell(); }

void TensorWriter::finish() {
  for (const auto& [name, target] : state_->targets) {
    require(target.came, kWhere, "tensor '{}': laid out, but never written", name);
  }
  state_->tell_until_written();
  state_->end();
  if (state_->error) std::rethrow_exception(state_->error);
  for (const auto& file : state_->files) file->finish();
  if (state_->progress) state_->progress("writing tensors", state_->total, state_->total);
}

void write_tensors(const std::filesystem::path& folder, const std::vector<FileLayout>& files,
                   const std::function<Tensor(const std::string& name)>& load, const Progress& progress) {
  TensorWriter writer(folder, files, progress);
  for (const std::string& name : writer.names()) {
    writer.write(name, load(name));
    writer.tell();
  }
  writer.finish();
}

}  // namespace halftone
