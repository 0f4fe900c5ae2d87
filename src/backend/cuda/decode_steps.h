#pragma once
// Steps of decoding: one token of each of some sequences, as one graph. The device chooses the next token, tests whether it
// ends its sequence and goes on by a place, so that a step may follow the one before it without the host. A sequence that has
// ended keeps its row, of which attention then does nothing, until other rows are loaded.

#include <map>
#include <memory>
#include <tuple>

#include "backend/cuda/device/end_step.h"
#include "backend/cuda/device_decoder.h"
#include "backend/cuda/kv_pages.h"
#include "backend/cuda/pinned_memory.h"
#include "backend/cuda/token_chooser.h"

namespace halftone::cuda {

class DecodeSteps {
 public:
  struct Model {
    const DeviceDecoder& decoder;
    const DeviceDecoder::Buffers& buffers;
    const std::vector<PagedKv>& kv;
    const float *cos, *sin;  // by position
    const std::int32_t* stop_tokens;
    int stop_count;
  };
  static std::size_t bytes(const DecoderShape& shape, std::int64_t rows);
  // rows: of a step, at most.
  DecodeSteps(const Model& model, std::int64_t rows, DeviceArena& workspace, const DeviceStream& stream);

  // Sets what the next step starts from. lengths: tokens in the rows' caches before it.
  void load(std::span<const DeviceStepRow> rows, std::span<const std::int64_t> lengths);
  // Puts a step on the stream.  longest: keys of a row after it, at most.
  void enqueue(std::int64_t longest);
  // Steps that were put on the stream and not waited for; at most two.
  std::int64_t under_way() const { return enqueued_ - waited_; }
  // What the oldest of them chose, for the rows whose sequences had not ended before it.
  std::vector<DeviceChoice> wait();
  // Rows of a step, ended ones among them.
  std::int64_t rows() const { return count_; }

 private:
  struct Rows {
    std::int32_t* results;  // [kResultParts, capacity]: tokens, gaps as bits, ended
    std::int32_t *tokens, *positions, *sequences, *lengths, *ended;
    float* gaps;
    TokenLimit* limits;
  };
  const DeviceGraph& graph(std::int64_t longest);
  void run(std::int64_t longest, const Launch& launch) const;
  void end_step(const Launch& launch) const;

  Model model_;
  const DeviceStream& stream_;
  std::int64_t count_ = 0;          // of rows
  std::vector<std::size_t> going_;  // the rows that had not ended when last waited for
  Rows rows_{};
  float* attention_memory_ = nullptr;
  std::uint32_t* attention_counters_ = nullptr;
  TokenChooser chooser_;
  using GraphKey = std::tuple<std::int64_t, std::int64_t, TokenChooser::Kernels>;  // rows, longest
  std::map<GraphKey, std::unique_ptr<DeviceGraph>> graphs_;
  struct Result {
    PinnedMemory memory;  // as Rows::results
    DeviceEvent done;
  };
  std::vector<Result> results_;  // two, in turn
  std::int64_t enqueued_ = 0, waited_ = 0, capacity_ = 0;
};

}  // namespace halftone::cuda
