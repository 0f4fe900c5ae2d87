#include "backend/cuda/vision_tower.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cuda/attention_prompt.h"
#include "backend/cuda/device/picture_patches.h"
#include "backend/cuda/op_profile.h"
#include "backend/cuda/upload.h"
#include "backend/cuda/vision_ops.h"
#include "base/ahead.h"
#include "base/error.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda vision";
constexpr std::int64_t kBlocksAhead = 4;  // that are read while earlier ones are copied
constexpr std::size_t kValues = 3 * 256, kValuesBytes = kValues * sizeof(float);

DeviceProducts upload_products(const DeviceProductsSource& source, std::int64_t rows, std::int64_t cols,
                               DeviceArena& arena, DeviceUploader& uploader) {
  const bool single = source.size() == 1 && source[0].weights.size() == 1;
  require(single && source[0].weights[0].shape == Shape{rows, cols}, kWhere, "expected one weight [{}, {}], got {}",
          rows, cols, single ? to_string(source[0].weights[0].shape) : "several");
  return DeviceProducts(source, arena, uploader);
}

const float* upload_row(const Tensor& values, std::int64_t count, DeviceArena& arena, DeviceUploader& uploader) {
  require(values.defined() && values.dtype() == DType::kF32 && values.numel() == count, kWhere,
          "expected {} weights of a norm in F32", count);
  return uploader.upload_floats(values, arena);
}

DeviceMatrix bf16_matrix(void* data, std::int64_t rows, std::int64_t cols) {
  return {data, DType::kBF16, rows, cols, cols};
}

// Bytes of the pieces of VisionTower::Buffers.
struct PieceBytes {
  std::size_t x, qkv, inner, rotation, axes, frame_ends;

  PieceBytes(const DeviceVisionSource& source, std::int64_t most_patches) {
    const auto n = static_cast<std::size_t>(most_patches), width = static_cast<std::size_t>(source.width);
    const auto columns = static_cast<std::size_t>(source.columns);
    x = 2 * n * width;
    qkv = std::max(3 * x, 2 * n * columns);                                             // rounded pixels before
    inner = n * std::max(2 * static_cast<std::size_t>(source.mlp_width), 4 * columns);  // pixels in f32 before
    inner = std::max(inner, x);                                                         // the merger's after
    inner = std::max(inner, attention_prompt_workspace(most_patches, source.heads, source.head_dim));
    rotation = 4 * n * static_cast<std::size_t>(source.head_dim / 2);
    // values of bytes, then rotations of rows and columns: no side has more than all patches
    axes = kValuesBytes + 2 * 4 * n * static_cast<std::size_t>(source.head_dim / 4);
    frame_ends = 4 * n;
  }
};

}  // namespace

VisionTower::VisionTower(const DeviceVisionSource& source, std::int64_t most_patches, DeviceArena& weights,
                         DeviceUploader& uploader)
    : shape_(source), most_patches_(most_patches) {
  require(source.heads > 0 && source.heads * source.head_dim == source.width && source.merge > 0 && most_patches > 0 &&
              most_patches <= std::numeric_limits<std::int32_t>::max(),
          kWhere, "{} heads of {} dimensions do not make a width of {}, or there is no room for patches", source.heads,
          source.head_dim, source.width);
  shape_.patch_embed = shape_.merger_first = shape_.merger_second = {};
  shape_.merger_norm = {};
  shape_.block = nullptr;
  const std::int64_t width = source.width, merged = source.merge * width;
  const auto upload_norm = [&](const DeviceNormSource& norm) {
    return Norm{upload_row(norm.weight, width, weights, uploader), upload_row(norm.bias, width, weights, uploader)};
  };
  const auto upload = [&](const DeviceProductsSource& products, std::int64_t rows, std::int64_t cols) {
    return upload_products(products, rows, cols, weights, uploader);
  };
  patch_embed_ = upload(source.patch_embed, width, source.columns);
  Ahead<DeviceVisionBlockSource> blocks(source.depth, kBlocksAhead, source.block);
  for (std::int64_t i = 0; i < source.depth; ++i) {
    const DeviceVisionBlockSource block = blocks.take();
    blocks_.push_back({upload_norm(block.norm1), upload_norm(block.norm2), upload(block.qkv, 3 * width, width),
                       upload(block.proj, width, width), upload(block.fc1, source.mlp_width, width),
                       upload(block.fc2, width, source.mlp_width)});
  }
  merger_norm_ = upload_norm(source.merger_norm);
  merger_first_ = upload(source.merger_first, merged, merged);
  merger_second_ = upload(source.merger_second, source.output, merged);
}

ProductBuffers::Sizes VisionTower::product_sizes() const {
  ProductBuffers::Sizes sizes;
  sizes.rows = most_patches_;
  for (const DeviceProducts* products : {&patch_embed_, &merger_first_, &merger_second_}) products->reserve({}, sizes);
  for (const Block& block : blocks_) {
    for (const DeviceProducts* products : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) {
      products->reserve({}, sizes);
    }
  }
  return sizes;
}

std::size_t VisionTower::buffer_bytes() const {
  const PieceBytes bytes(shape_, most_patches_);
  const auto padded = [](std::size_t count) { return DeviceArena::padded(count); };
  return 4 * padded(bytes.x) + padded(bytes.qkv) + padded(bytes.inner) + 2 * padded(bytes.rotation) +
         padded(bytes.axes) + padded(bytes.frame_ends) + ProductBuffers::bytes(product_sizes());
}

VisionTower::Buffers VisionTower::make_buffers(DeviceArena& arena) const {
  const PieceBytes bytes(shape_, most_patches_);
  return {.x = arena.allocate(bytes.x),
          .normed = arena.allocate(bytes.x),
          .qkv = arena.allocate(bytes.qkv),
          .mixed = arena.allocate(bytes.x),
          .inner = arena.allocate(bytes.inner),
          .added = arena.allocate(bytes.x),
          .cos = arena.allocate(bytes.rotation),
          .sin = arena.allocate(bytes.rotation),
          .axes = arena.allocate(bytes.axes),
          .frame_ends = arena.allocate(bytes.frame_ends),
          .products = ProductBuffers(product_sizes(), arena)};
}

void VisionTower::check_input(const VisionInput& input) const {
  require(input.patches > 0 && input.patches <= most_patches_ && input.patches % shape_.merge == 0, kWhere,
          "expected up to {} patches, a multiple of {}, got {}", most_patches_, shape_.merge, input.patches);
  require(input.pixels && input.cos && input.sin, kWhere, "expected pixels and rotations");
  std::int64_t begin = 0;
  for (const std::int64_t end : input.frame_ends) {
    require(end > begin, kWhere, "a frame ends at {} and begins at {}", end, begin);
    begin = end;
  }
  require(begin == input.patches, kWhere, "the frames end at {}, the patches at {}", begin, input.patches);
}

void VisionTower::upload(const VisionInput& input, const Buffers& buffers, const DeviceStream& stream) const {
  check_input(input);
  const auto n = static_cast<std::size_t>(input.patches);
  const std::size_t rotation = n * static_cast<std::size_t>(shape_.head_dim / 2) * sizeof(float);
  const std::vector<std::int32_t> frame_ends(input.frame_ends.begin(), input.frame_ends.end());
  // pageable memory like this is read before the call returns
  copy_to_device(buffers.frame_ends, frame_ends.data(), frame_ends.size() * sizeof(std::int32_t), stream, kWhere);
  copy_to_device(buffers.cos, input.cos, rotation, stream, kWhere);
  copy_to_device(buffers.sin, input.sin, rotation, stream, kWhere);
  copy_to_device(buffers.inner, input.pixels, n * static_cast<std::size_t>(shape_.columns) * sizeof(float), stream,
                 kWhere);
  const DeviceMatrix pixels{buffers.inner, DType::kF32, input.patches, shape_.columns, shape_.columns};
  round_rows(pixels, rounded_patches(input.patches, buffers), stream.launch());
}

void VisionTower::upload(const DevicePicture& picture, const Buffers& buffers, const DeviceStream& stream) const {
  const std::int64_t unit = picture.patch_size * picture.merge_size, side = std::max(picture.height, picture.width);
  const std::int64_t patches =
      unit > 0 ? picture.height * picture.width / (picture.patch_size * picture.patch_size) : 0;
  require(picture.rgb && patches > 0 && patches <= most_patches_ && picture.height % unit == 0 &&
              picture.width % unit == 0 && picture.merge_size * picture.merge_size == shape_.merge &&
              3 * picture.frames * picture.patch_size * picture.patch_size == shape_.columns,
          kWhere, "expected a picture of up to {} patches, sides a multiple of {}, got {} x {}", most_patches_, unit,
          picture.width, picture.height);
  const std::int64_t quarter = shape_.head_dim / 4, positions = side / picture.patch_size;
  require(picture.values.size() == kValues && picture.axis_cos.shape() == Shape{positions, quarter} &&
              picture.axis_sin.shape() == picture.axis_cos.shape(),
          kWhere, "expected values of 3 x 256 bytes and rotations [{}, {}]", positions, quarter);
  auto* axes = static_cast<char*>(buffers.axes);
  const auto axis = static_cast<std::size_t>(picture.axis_cos.nbytes());
  const std::int32_t frame_end = static_cast<std::int32_t>(patches);
  copy_to_device(buffers.frame_ends, &frame_end, sizeof(frame_end), stream, kWhere);
  copy_to_device(axes, picture.values.data(), kValuesBytes, stream, kWhere);
  copy_to_device(axes + kValuesBytes, picture.axis_cos.raw(), axis, stream, kWhere);
  copy_to_device(axes + kValuesBytes + axis, picture.axis_sin.raw(), axis, stream, kWhere);
  copy_to_device(buffers.inner, picture.rgb, static_cast<std::size_t>(picture.height * picture.width * 3), stream,
                 kWhere);
  const PatchGrid grid{static_cast<int>(picture.height / picture.patch_size),
                       static_cast<int>(picture.width / picture.patch_size), static_cast<int>(picture.merge_size)};
  const DeviceMatrix rounded = rounded_patches(patches, buffers);
  start_cut_patches({static_cast<const std::uint8_t*>(buffers.inner), reinterpret_cast<const float*>(axes), grid,
                     static_cast<int>(picture.patch_size), static_cast<int>(picture.frames),
                     static_cast<std::uint16_t*>(rounded.data), rounded.stride},
                    stream.launch());
  start_patch_rotations(
      {reinterpret_cast<const float*>(axes + kValuesBytes), reinterpret_cast<const float*>(axes + kValuesBytes + axis),
       grid, static_cast<int>(quarter), static_cast<float*>(buffers.cos), static_cast<float*>(buffers.sin)},
      stream.launch());
}

DeviceMatrix VisionTower::rounded_patches(std::int64_t patches, const Buffers& buffers) const {
  return bf16_matrix(buffers.qkv, patches, shape_.columns);
}

void VisionTower::encode(const VisionInput& input, const Buffers& buffers, const DeviceMatrix& out,
                         const DeviceStream& stream) const {
  upload(input, buffers, stream);
  run(input.patches, static_cast<std::int64_t>(input.frame_ends.size()), buffers, out, stream.launch());
}

void VisionTower::run(std::int64_t patches, std::int64_t frames, const Buffers& buffers, const DeviceMatrix& out,
                      const Launch& launch) const {
  require(patches > 0 && patches <= most_patches_ && patches % shape_.merge == 0 && frames > 0 && frames <= patches,
          kWhere, "expected up to {} patches, got {} in {} frames", most_patches_, patches, frames);
  const DeviceMatrix x = bf16_matrix(buffers.x, patches, shape_.width);
  multiply(patch_embed_, rounded_patches(patches, buffers), buffers, x, launch);
  // what a block adds in the end is added by the next one's first norm
  DeviceMatrix added;
  for (const Block& block : blocks_) {
    transform(block, added, frames, buffers, x, launch);
    added = bf16_matrix(buffers.added, patches, shape_.width);
  }
  merge(x, added, buffers, out, launch);
}

void VisionTower::transform(const Block& block, const DeviceMatrix& added, std::int64_t frames, const Buffers& buffers,
                            const DeviceMatrix& x, const Launch& launch) const {
  const std::int64_t n = x.rows, width = shape_.width;
  const DeviceMatrix normed = bf16_matrix(buffers.normed, n, width), mixed = bf16_matrix(buffers.mixed, n, width);
  const DeviceMatrix qkv = bf16_matrix(buffers.qkv, n, 3 * width), product = bf16_matrix(buffers.added, n, width);
  const DeviceMatrix inner = bf16_matrix(buffers.inner, n, shape_.mlp_width);
  normalize(block.norm1, x, added, normed, launch);
  multiply(block.qkv, normed, buffers, qkv, launch);
  const DeviceMatrix qk = columns_of(qkv, 0, 2 * width);
  rotate_heads(qk, 2 * shape_.heads, static_cast<const float*>(buffers.cos), static_cast<const float*>(buffers.sin),
               launch);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  const auto keys = static_cast<double>(n) / static_cast<double>(frames);  // of frames of one size
  std::optional<ProfiledOp> watched(std::in_place, launch, "attention_frames", 0,
                                    4.0 * static_cast<double>(n * width) * keys);
  attention_frames(
      {qkv, static_cast<const std::int32_t*>(buffers.frame_ends), frames, scale, shape_.heads, mixed, buffers.inner},
      launch);
  watched.reset();
  multiply(block.proj, mixed, buffers, product, launch);
  normalize(block.norm2, x, product, normed, launch);
  multiply(block.fc1, normed, buffers, inner, launch);
  quick_gelu(inner, launch);
  multiply(block.fc2, inner, buffers, product, launch);
}

void VisionTower::merge(const DeviceMatrix& x, const DeviceMatrix& added, const Buffers& buffers,
                        const DeviceMatrix& out, const Launch& launch) const {
  const std::int64_t tokens = x.rows / shape_.merge, merged = shape_.merge * shape_.width;
  normalize(merger_norm_, x, added, bf16_matrix(buffers.normed, x.rows, x.cols), launch);
  const DeviceMatrix inner = bf16_matrix(buffers.inner, tokens, merged);
  multiply(merger_first_, bf16_matrix(buffers.normed, tokens, merged), buffers, inner, launch);
  gelu_erf(inner, launch);
  multiply(merger_second_, inner, buffers, out, launch);
}

void VisionTower::multiply(const DeviceProducts& products, const DeviceMatrix& x, const Buffers& buffers,
                           const DeviceMatrix& y, const Launch& launch) const {
  DeviceProducts::Call call;
  call.x = x;
  call.y = y;
  call.prompt = true;
  products.run(call, buffers.products, launch);
}

void VisionTower::normalize(const Norm& norm, const DeviceMatrix& x, const DeviceMatrix& added, const DeviceMatrix& y,
                            const Launch& launch) const {
  layer_norm({x, added, norm.weight, norm.bias, shape_.norm_eps, y}, launch);
}

}  // namespace halftone::cuda
