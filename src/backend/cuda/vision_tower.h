#pragma once
// Qwen2-VL's vision tower and merger on the device: pictures' patches to visual tokens. The rounding points are those of
// model/encoders/qwen2_vl_vision.cpp and model/projectors/patch_merger.cpp in Numerics::kBF16.

#include <span>
#include <vector>

#include "backend/cuda/device_arena.h"
#include "backend/cuda/device_matrix.h"
#include "backend/cuda/device_products.h"
#include "backend/cuda/launch.h"
#include "ops/device_model.h"

namespace halftone::cuda {

// The patches of one call, in host memory. What is pinned must stay until the stream has passed the call.
struct VisionInput {
  std::int64_t patches = 0;
  const float* pixels = nullptr;               // [patches, columns]
  const float *cos = nullptr, *sin = nullptr;  // [patches, head_dim / 2]
  std::span<const std::int64_t> frame_ends;    // ascending, the last one is `patches`: a patch sees its own frame
};

class VisionTower {
 public:
  // Uploads the weights for calls of up to `most_patches`; the arena must outlive the tower.
  // Throws Error("[cuda vision] ...") when the source's shapes do not fit each other.
  VisionTower(const DeviceVisionSource& source, std::int64_t most_patches, DeviceArena& weights,
              DeviceUploader& uploader);

  // Memory between the ops of one call; names that are never in use at once share theirs.
  struct Buffers {
    void *x, *normed, *qkv, *mixed, *inner, *added, *cos, *sin, *axes, *frame_ends;
    ProductBuffers products;
  };
  std::size_t buffer_bytes() const;
  Buffers make_buffers(DeviceArena& arena) const;

  // out: [patches / merge, output] bf16 on the device, rows at multiples of 16 bytes. What was in the buffers is lost.
  void encode(const VisionInput& input, const Buffers& buffers, const DeviceMatrix& out,
              const DeviceStream& stream) const;

  // encode() in two halves, of which the second one can be captured in a graph for its numbers of patches and frames.
  void upload(const VisionInput& input, const Buffers& buffers, const DeviceStream& stream) const;
  // The first half from a picture's bytes: the same patches and rotations, made on the device. One frame.
  void upload(const DevicePicture& picture, const Buffers& buffers, const DeviceStream& stream) const;
  void run(std::int64_t patches, std::int64_t frames, const Buffers& buffers, const DeviceMatrix& out,
           const Launch& launch) const;

 private:
  struct Norm {
    const float *weight, *bias;
  };
  struct Block {
    Norm norm1, norm2;
    DeviceProducts qkv, proj, fc1, fc2;
  };

  ProductBuffers::Sizes product_sizes() const;
  DeviceMatrix rounded_patches(std::int64_t patches, const Buffers& buffers) const;
  void check_input(const VisionInput& input) const;
  void transform(const Block& block, const DeviceMatrix& added, std::int64_t frames, const Buffers& buffers,
                 const DeviceMatrix& x, const Launch& launch) const;
  void merge(const DeviceMatrix& x, const DeviceMatrix& added, const Buffers& buffers, const DeviceMatrix& out,
             const Launch& launch) const;
  void multiply(const DeviceProducts& products, const DeviceMatrix& x, const Buffers& buffers, const DeviceMatrix& y,
                const Launch& launch) const;
  void normalize(const Norm& norm, const DeviceMatrix& x, const DeviceMatrix& added, const DeviceMatrix& y,
                 const Launch& launch) const;

  DeviceVisionSource shape_;  // without its weights
  std::int64_t most_patches_;
  DeviceProducts patch_embed_, merger_first_, merger_second_;
  Norm merger_norm_{};
  std::vector<Block> blocks_;
};

}  // namespace halftone::cuda
