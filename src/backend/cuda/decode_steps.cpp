#include "backend/cuda/decode_steps.h"

#include <cmath>
#include <numeric>

#include "backend/cuda/op_profile.h"
#include "backend/cuda/upload.h"
#include "base/rounding.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda decode";
constexpr std::int64_t kResults = 2;
constexpr std::size_t kResultParts = 3;
// Keys by which graphs differ: a graph for longer caches starts blocks that find nothing to do.
constexpr std::int64_t kLongestStep = 512;
constexpr std::size_t kMostGraphs = 64;  // that are kept

std::size_t attention_bytes(const DecoderShape& shape, std::int64_t rows) {
  return static_cast<std::size_t>(attention_workspace(rows, shape.heads, shape.head_dim)) * sizeof(float);
}
std::size_t counter_bytes(const DecoderShape& shape, std::int64_t rows) {
  return static_cast<std::size_t>(rows * shape.kv_heads) * sizeof(std::uint32_t);
}

}  // namespace

std::size_t DecodeSteps::bytes(const DecoderShape& shape, std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  return DeviceArena::padded(kResultParts * count * 4) + 3 * DeviceArena::padded(count * 4) +
         DeviceArena::padded(count * sizeof(TokenLimit)) + DeviceArena::padded(attention_bytes(shape, rows)) +
         DeviceArena::padded(counter_bytes(shape, rows)) + TokenChooser::bytes(rows);
}

DecodeSteps::DecodeSteps(const Model& model, std::int64_t rows, DeviceArena& workspace, const DeviceStream& stream)
    : model_(model), stream_(stream), chooser_(rows, workspace, stream), capacity_(rows) {
  const auto count = static_cast<std::size_t>(rows);
  for (std::int32_t** array : {&rows_.positions, &rows_.sequences, &rows_.lengths}) {
    *array = workspace.allocate<std::int32_t>(count);
  }
  rows_.limits = workspace.allocate<TokenLimit>(count);
  rows_.results = rows_.tokens = workspace.allocate<std::int32_t>(kResultParts * count);
  rows_.gaps = reinterpret_cast<float*>(rows_.results + count);
  rows_.ended = rows_.results + 2 * count;
  const DecoderShape& shape = model.decoder.shape();
  attention_memory_ = static_cast<float*>(workspace.allocate(attention_bytes(shape, rows)));
  attention_counters_ = static_cast<std::uint32_t*>(workspace.allocate(counter_bytes(shape, rows)));
  check(cudaMemsetAsync(attention_counters_, 0, counter_bytes(shape, rows), stream.launch().stream), kWhere);
  for (std::int64_t i = 0; i < kResults; ++i) {
    results_.push_back({PinnedMemory(kResultParts * count * 4), DeviceEvent()});
  }
}

void DecodeSteps::load(std::span<const DeviceStepRow> rows, std::span<const std::int64_t> lengths) {
  require(!rows.empty() && static_cast<std::int64_t>(rows.size()) <= capacity_, kWhere,
          "expected 1 to {} sequences at once, got {}", capacity_, rows.size());
  require(under_way() == 0, kWhere, "expected no step under way, found {}", under_way());
  count_ = static_cast<std::int64_t>(rows.size());
  going_.resize(rows.size());
  std::iota(going_.begin(), going_.end(), std::size_t{0});
  std::vector<std::int32_t> tokens, positions, sequences, held;
  std::vector<TokenDraw> draws;
  std::vector<TokenLimit> limits;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    tokens.push_back(rows[i].token);
    positions.push_back(rows[i].position);
    sequences.push_back(static_cast<std::int32_t>(rows[i].sequence));
    held.push_back(static_cast<std::int32_t>(lengths[i] + 1));
    draws.push_back(rows[i].draw);
    limits.push_back(rows[i].limit);
  }
  copy_to_device<std::int32_t>(rows_.tokens, tokens, stream_, kWhere);
  copy_to_device<std::int32_t>(rows_.positions, positions, stream_, kWhere);
  copy_to_device<std::int32_t>(rows_.sequences, sequences, stream_, kWhere);
  copy_to_device<std::int32_t>(rows_.lengths, held, stream_, kWhere);
  copy_to_device<TokenLimit>(rows_.limits, limits, stream_, kWhere);
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
  chooser_.start({rows_of(model_.buffers.logits, 0, count_), rows_.tokens, rows_.gaps}, launch);
  end_step(launch);
}

void DecodeSteps::end_step(const Launch& launch) const {
  const ProfiledOp watched(launch, "end_step", static_cast<double>(count_) * 24);
  start_end_step({rows_.tokens, model_.stop_tokens, rows_.limits, rows_.lengths, rows_.positions, rows_.ended,
                  static_cast<int>(count_), model_.stop_count},
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
  const auto bytes = kResultParts * static_cast<std::size_t>(capacity_) * 4;
  const cudaStream_t stream = stream_.launch().stream;
  check(cudaMemcpyAsync(result.memory.data<char>(), rows_.results, bytes, cudaMemcpyDeviceToHost, stream), kWhere);
  result.done.record(stream);
  ++enqueued_;
}

std::vector<DeviceChoice> DecodeSteps::wait() {
  require(under_way() > 0, kWhere, "expected a step under way");
  const Result& result = results_[static_cast<std::size_t>(waited_++ % kResults)];
  result.done.wait();
  const auto* tokens = result.memory.data<std::int32_t>();
  const auto* gaps = result.memory.data<float>() + capacity_;
  const std::int32_t* ended = tokens + 2 * capacity_;
  std::vector<DeviceChoice> choices;
  for (const std::size_t row : going_) choices.push_back({tokens[row], gaps[row], ended[row] != 0});
  std::erase_if(going_, [&](std::size_t row) { return ended[row] != 0; });
  return choices;
}

}  // namespace halftone::cuda
