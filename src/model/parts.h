#pragma once
// The three parts of a vision-language model as interfaces; encoders/, projectors/ and decoders/ hold one file an
// architecture. Parts are immutable while they run and keep their buffers in the caller's Workspace. All tensors are
// f32.

#include <memory>
#include <span>

#include "model/kv_cache.h"
#include "model/layers.h"
#include "model/mrope.h"
#include "model/run_context.h"

namespace halftone {

// The next tokens of one sequence.
struct SequenceSlice {
  KvCache* cache = nullptr;
  std::span<const Position> positions;  // [tokens]
  // How many of the last tokens have a row of the result that somebody reads; -1: all. Rows of the others are left
  // undefined, which saves most of the last layer. Ignored when somebody observes.
  std::int64_t wanted = -1;

  std::int64_t tokens() const { return static_cast<std::int64_t>(positions.size()); }
};

class Part {
 public:
  virtual ~Part() = default;
  virtual void visit(const LayerVisitor& visitor) = 0;
};

class Encoder : public Part {
 public:
  // patches: [sum of grids' patches, columns]. Returns [patches, width], in the workspace.
  virtual Tensor encode(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const = 0;
  // The same step by step: what the first block reads, [patches, width], owned; then each block, in place.
  virtual Tensor start(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const = 0;
  virtual void run_block(std::int64_t block, std::span<const PictureGrid> grids, Tensor& x, RunContext run) const = 0;
};

class Projector : public Part {
 public:
  // x: [patches, width]. Returns [visual tokens, hidden], owned.
  virtual Tensor project(const Tensor& x, RunContext run) const = 0;
};

class Decoder : public Part {
 public:
  // One layer in place. hidden: [sum of slices' tokens, hidden].
  virtual void run_layer(std::int64_t layer, std::span<const SequenceSlice> slices, const RotationTables& rotation,
                         Tensor& hidden, RunContext run) const = 0;
  // The last norm and the head. Returns [rows, vocabulary], in the workspace.
  virtual Tensor logits(const Tensor& hidden, RunContext run) const = 0;
};

}  // namespace halftone
