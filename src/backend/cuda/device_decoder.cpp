#include "backend/cuda/device_decoder.h"

#include "base/ahead.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda decoder";
// Whose weights are read from the file, and unpacked where they are packed, while earlier ones are copied.
constexpr std::int64_t kLayersAhead = 4;

DecoderShape shape_of(const DeviceDecoderSource& source) {
  return {source.layers,   source.hidden,   source.intermediate, source.heads,
          source.kv_heads, source.head_dim, source.vocabulary,   source.norm_eps};
}

// Whether the head's weight is the table of embeddings itself.
bool is_embedding(const DeviceProductsSource& head, const Tensor& embedding) {
  return head.size() == 1 && head[0].weights.size() == 1 && head[0].weights[0].spec.element == Element::kBF16 &&
         head[0].weights[0].payload.raw() == embedding.raw();
}

DeviceMatrix take_matrix(DType dtype, std::int64_t rows, std::int64_t cols, DeviceArena& arena) {
  return {arena.allocate(static_cast<std::size_t>(rows * cols) * dtype_size(dtype)), dtype, rows, cols, cols};
}

std::size_t bf16_bytes(std::int64_t rows, std::int64_t cols) {
  return DeviceArena::padded(static_cast<std::size_t>(rows * cols) * sizeof(std::uint16_t));
}

}  // namespace

DeviceDecoder::DeviceDecoder(const DeviceDecoderSource& source, DeviceArena& weights, DeviceUploader& uploader)
    : shape_(shape_of(source)) {
  require(source.embedding.dtype() == DType::kBF16 &&
              source.embedding.shape() == Shape{source.vocabulary, source.hidden} && source.hidden % 8 == 0,
          kWhere, "expected embeddings BF16 [{}, {}] of a width divisible by 8, got {} {}", source.vocabulary,
          source.hidden, dtype_name(source.embedding.dtype()), to_string(source.embedding.shape()));
  embedding_ = {const_cast<void*>(uploader.upload(source.embedding, weights)), DType::kBF16, source.vocabulary,
                source.hidden, source.hidden};
  Ahead<DeviceDecoderLayerSource> layers(source.layers, kLayersAhead, source.layer);
  for (std::int64_t i = 0; i < source.layers; ++i) {
    const DeviceDecoderLayerSource layer = layers.take();
    layers_.push_back({uploader.upload_floats(layer.input_norm.weight, weights),
                       uploader.upload_floats(layer.mlp_norm.weight, weights),
                       DeviceProducts(layer.qkv, weights, uploader), DeviceProducts(layer.o, weights, uploader),
                       DeviceProducts(layer.gate_up, weights, uploader),
                       DeviceProducts(layer.down, weights, uploader)});
  }
  norm_ = uploader.upload_floats(source.norm.weight, weights);
  head_ = DeviceProducts(source.head, weights, uploader,
                         is_embedding(source.head, source.embedding) ? embedding_.data : nullptr);
}

ProductBuffers::Sizes DeviceDecoder::product_sizes(std::int64_t rows) const {
  ProductBuffers::Sizes sizes;
  sizes.rows = rows;
  for (const Layer& layer : layers_) {
    layer.qkv.reserve({.norm = true, .spare_rows = true}, sizes);
    layer.o.reserve({.residual = true}, sizes);
    layer.gate_up.reserve({.norm = true, .silu_mul = true, .spare_rows = true}, sizes);
    layer.down.reserve({.residual = true}, sizes);
  }
  head_.reserve({.norm = true, .prompts = false}, sizes);
  return sizes;
}

std::size_t DeviceDecoder::buffer_bytes(std::int64_t rows, std::int64_t logit_rows) const {
  return bf16_bytes(rows, shape_.hidden) + bf16_bytes(rows, shape_.qkv_width()) + bf16_bytes(rows, shape_.q_width()) +
         bf16_bytes(rows, shape_.intermediate) + bf16_bytes(logit_rows, shape_.hidden) +
         2 * bf16_bytes(logit_rows, shape_.vocabulary) + ProductBuffers::bytes(product_sizes(rows));
}

DeviceDecoder::Buffers DeviceDecoder::make_buffers(std::int64_t rows, std::int64_t logit_rows,
                                                   DeviceArena& arena) const {
  return {take_matrix(DType::kBF16, rows, shape_.hidden, arena),
          take_matrix(DType::kBF16, rows, shape_.qkv_width(), arena),
          take_matrix(DType::kBF16, rows, shape_.q_width(), arena),
          take_matrix(DType::kBF16, rows, shape_.intermediate, arena),
          take_matrix(DType::kBF16, logit_rows, shape_.hidden, arena),
          take_matrix(DType::kF32, logit_rows, shape_.vocabulary, arena),
          ProductBuffers(product_sizes(rows), arena)};
}

DeviceMatrix DeviceDecoder::run(std::int64_t rows, const Pass& pass, const std::vector<PagedKv>& kv,
                                const Buffers& buffers, const Launch& launch) const {
  const DeviceMatrix hidden = rows_of(buffers.hidden, 0, rows);
  for (std::size_t i = 0; i + 1 < layers_.size(); ++i) {
    run_layer(layers_[i], rows, hidden, pass, kv[i], buffers, launch);
  }
  const DeviceMatrix wanted = wanted_rows(pass, hidden, buffers, launch);
  run_layer(layers_.back(), rows, wanted, pass, kv.back(), buffers, launch);
  return wanted;
}

DeviceMatrix DeviceDecoder::wanted_rows(const Pass& pass, const DeviceMatrix& hidden, const Buffers& buffers,
                                        const Launch& launch) const {
  if (!pass.wanted) return rows_of(hidden, pass.first_wanted, hidden.rows);
  const DeviceMatrix wanted = rows_of(buffers.wanted, 0, pass.wanted_rows);
  cuda::embedding({hidden, pass.wanted, wanted, {}, nullptr}, launch);
  return wanted;
}

void DeviceDecoder::run_layer(const Layer& layer, std::int64_t rows, const DeviceMatrix& x, const Pass& pass,
                              const PagedKv& kv, const Buffers& buffers, const Launch& launch) const {
  const DeviceMatrix hidden = rows_of(buffers.hidden, 0, rows), qkv = rows_of(buffers.qkv, 0, rows);
  layer.qkv.run({hidden, layer.input_norm, shape_.norm_eps, qkv, {}, false, pass.prompt, true}, buffers.products,
                launch);
  const DeviceMatrix mixed = rows_of(buffers.mixed, 0, x.rows), mlp = rows_of(buffers.mlp, 0, x.rows);
  pass.attend(qkv, kv, &layer == &layers_.back(), mixed);
  if (x.rows == 0) return;
  layer.o.run({mixed, nullptr, 0.0f, x, x, false, pass.prompt}, buffers.products, launch);
  const bool gates = pass.prompt && layer.down.prepares_gates();
  const DeviceMatrix wide = gates ? buffers.products.wide(x.rows, 2 * shape_.intermediate) : mlp;
  layer.gate_up.run({x, layer.mlp_norm, shape_.norm_eps, wide, {}, !gates, pass.prompt, gates}, buffers.products,
                    launch);
  layer.down.run({wide, nullptr, 0.0f, x, x, false, pass.prompt, false, gates}, buffers.products, launch);
}

void DeviceDecoder::logits(const DeviceMatrix& hidden, const Buffers& buffers, const Launch& launch) const {
  head_.run({hidden, norm_, shape_.norm_eps, rows_of(buffers.logits, 0, hidden.rows), {}}, buffers.products, launch);
}

}  // namespace halftone::cuda
