#include "backend/cuda/decode_steps.h"

#include <cmath>

#include "backend/cuda/upload.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda decode";
constexpr std::int64_t kResults = 2;
// Keys by which graphs differ: a graph for longer caches starts blocks that find nothing to do.
constexpr std::int64_t kLongestStep = 512;
constexpr std::size_t kMostGraphs = 64;  // that are kept

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

std::size_t attention_bytes(const DecoderShape& shape, std::int64_t rows) {
  return static_cast<std::size_t>(attention_workspace(rows, shape.heads, shape.head_dim)) * sizeof(float);
}
std::size_t counter_bytes(const DecoderShape& shape, std::int64_t rows) {
  return static_cast<std::size_t>(rows * shape.kv_heads) * sizeof(std::uint32_t);
}

}  // namespace

std::size_t DecodeSteps::bytes(const DecoderShape& shape, std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  return 5 * DeviceArena::padded(count * 4) + DeviceArena::padded(attention_bytes(shape, rows)) +
         DeviceArena::padded(counter_bytes(shape, rows)) + TokenChooser::bytes(rows);
}

DecodeSteps::DecodeSteps(const Model& model, std::int64_t rows, DeviceArena& workspace, const DeviceStream& stream)
    : model_(model), stream_(stream), chooser_(rows, workspace, stream), capacity_(rows) {
  const auto count = static_cast<std::size_t>(rows);
  for (std::int32_t** array : {&rows_.tokens, &rows_.positions, &rows_.sequences, &rows_.lengths}) {
    *array = workspace.allocate<std::int32_t>(count);
  }
  rows_.gaps = workspace.allocate<float>(count);
  const DecoderShape& shape = model.decoder.shape();
  attention_memory_ = static_cast<float*>(workspace.allocate(attention_bytes(shape, rows)));
  attention_counters_ = static_cast<std::uint32_t*>(workspace.allocate(counter_bytes(shape, rows)));
  check(cudaMemsetAsync(attention_counters_, 0, counter_bytes(shape, rows), stream.launch().stream), kWhere);
  for (std::int64_t i = 0; i < kResults; ++i) results_.push_back({PinnedMemory(count * 8), DeviceEvent()});
}

void DecodeSteps::load(std::span<const DeviceStepRow> rows, std::span<const std::int64_t> lengths) {
  require(!rows.empty() && static_cast<std::int64_t>(rows.size()) <= capacity_, kWhere,
          "expected 1 to {} sequences at once, got {}", capacity_, rows.size());
  count_ = static_cast<std::int64_t>(rows.size());
  std::vector<std::int32_t> tokens, positions, sequences, held;
  std::vector<TokenDraw> draws;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    tokens.push_back(rows[i].token);
    positions.push_back(rows[i].position);
    sequences.push_back(static_cast<std::int32_t>(rows[i].sequence));
    held.push_back(static_cast<std::int32_t>(lengths[i] + 1));
    draws.push_back(rows[i].draw);
  }
  copy_to_device<std::int32_t>(rows_.tokens, tokens, stream_, kWhere);
  copy_to_device<std::int32_t>(rows_.positions, positions, stream_, kWhere);
  copy_to_device<std::int32_t>(rows_.sequences, sequences, stream_, kWhere);
  copy_to_device<std::int32_t>(rows_.lengths, held, stream_, kWhere);
  chooser_.load(draws, stream_);
}

void DecodeSteps::run(std::int64_t longest, const Launch& launch) const {
  const DecoderShape& shape = model_.decoder.shape();
  const DeviceMatrix hidden = rows_of(model_.buffers.hidden, 0, count_);
  embedding({model_.decoder.embedding(), rows_.tokens, hidden, {}, nullptr}, launch);
  DeviceDecoder::Pass pass;
  pass.attend = [&](const DeviceMatrix& qkv, const PagedKv& kv, bool, const DeviceMatrix& mixed) {
    attention_decode({qkv, model_.cos, model_.sin, rows_.positions, rows_.sequences, rows_.lengths, longest,
                      1.0f / std::sqrt(static_cast<float>(shape.head_dim)), shape.heads, attention_memory_,
                      attention_counters_, mixed},
                     kv, launch);
  };
  model_.decoder.run(count_, pass, model_.kv, model_.buffers, launch);
  model_.decoder.logits(hidden, model_.buffers, launch);
  chooser_.start(
      {rows_of(model_.buffers.logits, 0, count_), rows_.tokens, rows_.gaps, nullptr, rows_.lengths, rows_.positions},
      launch);
}

const DeviceGraph& DecodeSteps::graph(std::int64_t longest) {
  // what runs of a graph ends before the device gives its memory back
  const GraphKey key{count_, longest, chooser_.kernels()};
  if (graphs_.size() >= kMostGraphs && !graphs_.contains(key)) graphs_.clear();
  std::unique_ptr<DeviceGraph>& found = graphs_[key];
  if (!found) found = std::make_unique<DeviceGraph>(stream_, [&](const Launch& launch) { run(longest, launch); });
  return *found;
}

void DecodeSteps::enqueue(std::int64_t longest) {
  require(under_way() < kResults, kWhere, "expected at most {} steps under way", kResults);
  if (stream_.launch().profile) {
    run(round_up(longest, kLongestStep), stream_.launch());
  } else {
    graph(round_up(longest, kLongestStep)).run(stream_);
  }
  const Result& result = results_[static_cast<std::size_t>(enqueued_ % kResults)];
  const auto bytes = static_cast<std::size_t>(count_) * 4;
  const cudaStream_t stream = stream_.launch().stream;
  check(cudaMemcpyAsync(result.memory.data<char>(), rows_.tokens, bytes, cudaMemcpyDeviceToHost, stream), kWhere);
  check(cudaMemcpyAsync(result.memory.data<char>() + bytes, rows_.gaps, bytes, cudaMemcpyDeviceToHost, stream), kWhere);
  result.done.record(stream);
  ++enqueued_;
}

std::vector<DeviceChoice> DecodeSteps::wait() {
  require(under_way() > 0, kWhere, "expected a step under way");
  const Result& result = results_[static_cast<std::size_t>(waited_++ % kResults)];
  result.done.wait();
  std::vector<DeviceChoice> choices;
  for (std::int64_t i = 0; i < count_; ++i) {
    choices.push_back({result.memory.data<std::int32_t>()[i], result.memory.data<float>()[count_ + i]});
  }
  return choices;
}

}  // namespace halftone::cuda
