#pragma once
// The decoder's weights on the device, and one pass of its layers over rows of hidden states.

#include <functional>
#include <vector>

#include "backend/cuda/decode_ops.h"
#include "backend/cuda/device_products.h"

namespace halftone::cuda {

struct DecoderShape {
  std::int64_t layers = 0, hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0, vocabulary = 0;
  float norm_eps = 1e-6f;

  std::int64_t q_width() const { return heads * head_dim; }
  std::int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

class DeviceDecoder {
 public:
  // Throws Error for formats that no kernel reads, and for heads that attention does not take.
  DeviceDecoder(const DeviceDecoderSource& source, DeviceArena& weights, DeviceUploader& uploader);

  // Activations of up to `rows` tokens.
  struct Buffers {
    DeviceMatrix hidden, qkv, mixed, mlp;  // bf16
    DeviceMatrix wanted;                   // [logit rows, hidden] bf16
    DeviceMatrix logits;                   // [logit rows, vocabulary] f32
    ProductBuffers products;
  };
  std::size_t buffer_bytes(std::int64_t rows, std::int64_t logit_rows) const;
  Buffers make_buffers(std::int64_t rows, std::int64_t logit_rows, DeviceArena& arena) const;

  // What differs between a prompt and a step of decoding.
  struct Pass {
    bool prompt = false;  // as DeviceProducts has it
    // Rows that are needed after the last layer: those from `first_wanted` on, or the `wanted_rows` that `wanted` names, on
    // the device.
    std::int64_t first_wanted = 0;
    const std::int32_t* wanted = nullptr;
    std::int64_t wanted_rows = 0;
    // Rotates q and k of all rows and puts k and v into the cache; mixed = attention of all rows, in the last layer of
    // those that are needed after it, one after another: perhaps none.
    std::function<void(const DeviceMatrix& qkv, const PagedKv& kv, bool last, const DeviceMatrix& mixed)> attend;
  };
  // All layers on the first `rows` rows of buffers.hidden, in place.  kv: the cache of each layer. Returns the hidden states
  // of the rows that are needed.
  DeviceMatrix run(std::int64_t rows, const Pass& pass, const std::vector<PagedKv>& kv, const Buffers& buffers,
                   const Launch& launch) const;
  // buffers.logits = head(norm(hidden)), by the kernels of decoding.  hidden: [rows, hidden], up to kDecodeTokens rows.
  void logits(const DeviceMatrix& hidden, const Buffers& buffers, const Launch& launch) const;

  const DecoderShape& shape() const { return shape_; }
  const DeviceMatrix& embedding() const { return embedding_; }

 private:
  struct Layer {
    const float *input_norm = nullptr, *mlp_norm = nullptr;
    DeviceProducts qkv, o, gate_up, down;
  };
  // x: the rows that are needed after the layer, with their hidden states before it.
  void run_layer(const Layer& layer, std::int64_t rows, const DeviceMatrix& x, const Pass& pass, const PagedKv& kv,
                 const Buffers& buffers, const Launch& launch) const;
  DeviceMatrix wanted_rows(const Pass& pass, const DeviceMatrix& hidden, const Buffers& buffers,
                           const Launch& launch) const;
  ProductBuffers::Sizes product_sizes(std::int64_t rows) const;

  DecoderShape shape_;
  DeviceMatrix embedding_;
  std::vector<Layer> layers_;
  const float* norm_ = nullptr;
  DeviceProducts head_;
};

}  // namespace halftone::cuda
