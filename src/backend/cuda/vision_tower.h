#pragma once
// Qwen2-VL's vision tower and merger on the device: pictures' patches to visual tokens. The rounding points are those of
// model/encoders/qwen2_vl_vision.cpp and model/projectors/patch_merger.cpp in Numerics::kBF16.

#include <optional>
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
  // Uploads the weights and takes memory for calls of up to `most_patches`; both arenas must outlive the tower. The workspace
  // should grow: how much it takes follows from the weights' formats.
  // Throws Error("[cuda vision] ...") when the source's shapes do not fit each other.
  VisionTower(const DeviceVisionSource& source, std::int64_t most_patches, DeviceArena& weights, DeviceArena& workspace,
              DeviceUploader& uploader);

  // out: [patches / merge, output] bf16 on the device, rows at multiples of 16 bytes. One call at a time.
  void encode(const VisionInput& input, const DeviceMatrix& out, const DeviceStream& stream) const;

  // encode() in two halves, of which the second one can be captured in a graph for its numbers of patches and frames.
  void upload(const VisionInput& input, const DeviceStream& stream) const;
  // The first half from a picture's bytes: the same patches and rotations, made on the device. One frame.
  void upload(const DevicePicture& picture, const DeviceStream& stream) const;
  void run(std::int64_t patches, std::int64_t frames, const DeviceMatrix& out, const Launch& launch) const;

 private:
  struct Norm {
    const float *weight, *bias;
  };
  struct Block {
    Norm norm1, norm2;
    DeviceProducts qkv, proj, fc1, fc2;
  };
  // Names of the memory between the ops; some share theirs.
  struct Workspace {
    void *x, *normed, *qkv, *mixed, *inner, *added, *cos, *sin, *axes, *frame_ends;
  };

  void take_workspace(DeviceArena& arena);
  DeviceMatrix rounded_patches(std::int64_t patches) const;
  void check_input(const VisionInput& input) const;
  void transform(const Block& block, const DeviceMatrix& added, std::int64_t frames, const DeviceMatrix& x,
                 const Launch& launch) const;
  void merge(const DeviceMatrix& x, const DeviceMatrix& added, const DeviceMatrix& out, const Launch& launch) const;
  void multiply(const DeviceProducts& products, const DeviceMatrix& x, const DeviceMatrix& y,
                const Launch& launch) const;
  void normalize(const Norm& norm, const DeviceMatrix& x, const DeviceMatrix& added, const DeviceMatrix& y,
                 const Launch& launch) const;

  DeviceVisionSource shape_;  // without its weights
  std::int64_t most_patches_;
  DeviceProducts patch_embed_, merger_first_, merger_second_;
  Norm merger_norm_{};
  std::vector<Block> blocks_;
  Workspace workspace_{};
  std::optional<ProductBuffers> product_buffers_;
};

}  // namespace halftone::cuda
