#include "model/encoders/qwen2_vl_vision.h"

#include <algorithm>
#include <cmath>

#include "model/encoders/vision_positions.h"
#include "ops/attention.h"
#include "ops/backend.h"
#include "ops/elementwise.h"
#include "ops/rope.h"

namespace halftone {
namespace {

constexpr float kNormEps = 1e-6f;
// Rows that one thread copies at a time.
constexpr std::int64_t kCopiedRows = 32;

struct Block {
  std::string name;
  Norm norm1, norm2;
  Linear qkv, proj, fc1, fc2;
};

std::vector<AttentionRange> frame_ranges(std::span<const PictureGrid> grids) {
  std::vector<AttentionRange> ranges;
  std::int64_t begin = 0;
  for (const std::int64_t end : vision_frame_ends(grids)) {
    ranges.insert(ranges.end(), static_cast<std::size_t>(end - begin), AttentionRange{begin, end});
    begin = end;
  }
  return ranges;
}

class Qwen2VlVision final : public Encoder {
 public:
  Qwen2VlVision(const VisionConfig& config, const Weights& weights, Numerics numerics, Stream& stream)
      : config_(config), numerics_(numerics) {
    const Tensor patch = weights.stored_weight("visual.patch_embed.proj").reshape({config.width, config.columns()});
    patch_embed_ = pack_linear(wrap_unquantized(patch), {}, {}, stream);
    for (std::int64_t i = 0; i < config.depth; ++i) {
      const std::string name = fmt::format("visual.blocks.{}", i);
      const auto linear = [&](std::string_view suffix) {
        return Linear({name + std::string(suffix)}, weights, stream);
      };
      blocks_.push_back({name, Norm(name + ".norm1", weights), Norm(name + ".norm2", weights), linear(".attn.qkv"),
                         linear(".attn.proj"), linear(".mlp.fc1"), linear(".mlp.fc2")});
    }
  }

  void visit(const LayerVisitor& visitor) override {
    for (Block& block : blocks_) {
      visitor.norm(block.norm1);
      visitor.linear(block.qkv);
      visitor.linear(block.proj);
      visitor.norm(block.norm2);
      visitor.linear(block.fc1);
      visitor.linear(block.fc2);
    }
  }

  Tensor encode(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const override {
    Tensor x = run.workspace.get("vision.x", {patches.dim(0), config_.width});
    embed_patches(patches, grids, x, run);
    const RotationTables rotation = vision_rotations(config_, grids);
    const std::vector<AttentionRange> ranges = frame_ranges(grids);
    for (const Block& block : blocks_) transform(block, rotation, ranges, x, run);
    return x;
  }

  Tensor start(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const override {
    Tensor x(DType::kF32, {patches.dim(0), config_.width});
    embed_patches(patches, grids, x, run);
    return x;
  }

  void run_block(std::int64_t block, std::span<const PictureGrid> grids, Tensor& x, RunContext run) const override {
    transform(blocks_.at(static_cast<std::size_t>(block)), vision_rotations(config_, grids), frame_ranges(grids), x,
              run);
  }

 private:
  // x: [patches, width]
  void embed_patches(const Tensor& patches, std::span<const PictureGrid> grids, Tensor& x, RunContext run) const {
    check_input(patches, grids);
    Tensor pixels = patches;
    if (numerics_ != Numerics::kF32) {
      pixels = patches.clone();
      round_to(numerics_, pixels, run.stream);
    }
    linear(pixels, *patch_embed_, x, run.stream);
    round_to(numerics_, x, run.stream);
    run.tell_output("visual.patch_embed", x);
  }

  void transform(const Block& block, const RotationTables& rotation, std::span<const AttentionRange> ranges, Tensor& x,
                 RunContext run) const {
    attend(block, rotation, ranges, x, run);
    feed_forward(block, x, run);
    run.tell_output(block.name, x);
  }

  void check_input(const Tensor& patches, std::span<const PictureGrid> grids) const {
    std::int64_t total = 0;
    for (const PictureGrid& grid : grids) {
      require(grid.time > 0 && grid.height > 0 && grid.width > 0 && grid.height % config_.merge_size == 0 &&
                  grid.width % config_.merge_size == 0,
              "encode_pictures", "expected a grid of multiples of {}, got {} x {} x {}", config_.merge_size, grid.time,
              grid.height, grid.width);
      total += grid.patches();
    }
    require(patches.shape() == Shape{total, config_.columns()}, "encode_pictures", "expected patches [{}, {}], got {}",
            total, config_.columns(), to_string(patches.shape()));
  }

  // x += proj(attention(norm1(x)))
  void attend(const Block& block, const RotationTables& rotation, std::span<const AttentionRange> ranges, Tensor& x,
              RunContext run) const {
    const std::int64_t n = x.dim(0), width = config_.width, heads = config_.heads, d = config_.head_dim;
    Tensor normed = run.workspace.get("vision.normed", {n, width});
    layer_norm(x, block.norm1.weight(), block.norm1.bias(), kNormEps, numerics_, normed, run.stream);
    Tensor qkv = run.workspace.get("vision.qkv", {n, 3 * width});
    block.qkv.forward(normed, numerics_, qkv, run);
    Tensor q = run.workspace.get("vision.q", {n, heads, d}), k = run.workspace.get("vision.k", {n, heads, d});
    Tensor k_heads = run.workspace.get("vision.k_heads", {heads, n, d});
    Tensor v_heads = run.workspace.get("vision.v_heads", {heads, n, d});
    split_rows(qkv, q, k, v_heads, run.stream);
    // transformers turns q and k in f32 and rounds the result
    for (Tensor* turned : {&q, &k}) {
      rope(rotation.cos, rotation.sin, Numerics::kF32, *turned, run.stream);
      round_to(numerics_, *turned, run.stream);
    }
    to_heads(k, k_heads, run.stream);
    std::vector<const float*> k_pointers, v_pointers;
    for (std::int64_t h = 0; h < heads; ++h) {
      k_pointers.push_back(k_heads.data<float>() + h * n * d);
      v_pointers.push_back(v_heads.data<float>() + h * n * d);
    }
    Tensor mixed = run.workspace.get("vision.mixed", {n, heads, d});
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    attention(q, {k_pointers, v_pointers}, ranges, scale, numerics_, mixed, run.stream);
    block.proj.forward(mixed.reshape({n, width}), numerics_, normed, run);
    add(normed, numerics_, x, run.stream);
  }

  // qkv: [n, 3, heads, d] -> q, k: [n, heads, d], v: [heads, n, d].
  void split_rows(const Tensor& qkv, Tensor& q, Tensor& k, Tensor& v_heads, Stream& stream) const {
    const std::int64_t n = qkv.dim(0), width = config_.width, d = config_.head_dim;
    for_ranges(stream, n, kCopiedRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const float* row = qkv.data<float>() + t * 3 * width;
        std::copy_n(row, width, q.data<float>() + t * width);
        std::copy_n(row + width, width, k.data<float>() + t * width);
        for (std::int64_t h = 0; h < config_.heads; ++h) {
          std::copy_n(row + 2 * width + h * d, d, v_heads.data<float>() + (h * n + t) * d);
        }
      }
    });
  }

  // [n, heads, d] -> [heads, n, d]
  void to_heads(const Tensor& x, Tensor& y, Stream& stream) const {
    const std::int64_t n = x.dim(0), heads = config_.heads, d = config_.head_dim;
    for_ranges(stream, n, kCopiedRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        for (std::int64_t h = 0; h < heads; ++h) {
          std::copy_n(x.data<float>() + (t * heads + h) * d, d, y.data<float>() + (h * n + t) * d);
        }
      }
    });
  }

  // x += fc2(quick_gelu(fc1(norm2(x))))
  void feed_forward(const Block& block, Tensor& x, RunContext run) const {
    const std::int64_t n = x.dim(0);
    Tensor normed = run.workspace.get("vision.normed", {n, config_.width});
    layer_norm(x, block.norm2.weight(), block.norm2.bias(), kNormEps, numerics_, normed, run.stream);
    Tensor inner = run.workspace.get("vision.inner", {n, config_.mlp_width});
    block.fc1.forward(normed, numerics_, inner, run);
    quick_gelu(inner, numerics_, inner, run.stream);
    block.fc2.forward(inner, numerics_, normed, run);
    add(normed, numerics_, x, run.stream);
  }

  VisionConfig config_;
  Numerics numerics_;
  std::shared_ptr<const PackedLinear> patch_embed_;
  std::vector<Block> blocks_;
};

}  // namespace

std::unique_ptr<Encoder> make_qwen2_vl_vision(const VisionConfig& config, const Weights& weights, Numerics numerics,
                                              Stream& stream) {
  return std::make_unique<Qwen2VlVision>(config, weights, numerics, stream);
}

}  // namespace halftone
