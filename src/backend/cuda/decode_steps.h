#pragma once
// Steps of decoding: one token of each of some sequences, as one graph. The device counts places and positions up and chooses
// the next token, so that a step may follow the one before it without the host.

#include <map>
#include <memory>
#include <tuple>

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
  // What the oldest of them chose.
  std::vector<DeviceChoice> wait();

 private:
  struct Rows {
    std::int32_t *tokens, *positions, *sequences, *lengths;
    float* gaps;
  };
  const DeviceGraph& graph(std::int64_t longest);
  void run(std::int64_t longest, const Launch& launch) const;

  Model model_;
  const DeviceStream& stream_;
  std::int64_t count_ = 0;  // of rows
  Rows rows_{};
  float* attention_memory_ = nullptr;
  std::uint32_t* attention_counters_ = nullptr;
  TokenChooser chooser_;
  using GraphKey = std::tuple<std::int64_t, std::int64_t, TokenChooser::Kernels>;  // rows, longest
  std::map<GraphKey, std::unique_ptr<DeviceGraph>> graphs_;
  struct Result {
    PinnedMemory memory;  // tokens, then gaps
    DeviceEvent done;
  };
  std::vector<Result> results_;  // two, in turn
  std::int64_t enqueued_ = 0, waited_ = 0, capacity_ = 0;
};

}  // namespace halftone::cuda
