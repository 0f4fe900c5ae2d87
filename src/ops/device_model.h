#pragma once
// A whole vision-language model on a device. A backend makes one from sources that know neither checkpoints nor files;
// what calls it knows neither streams nor pointers of the device. Activations are bf16, keys and values too unless they are
// kept in 8 bits, sums f32: Numerics::kBF16 of the other ops, but for the order of sums and for probabilities, which
// attention does not round.
//
// Every prompt and every step of decoding has its own kernels, and no order of summation depends on how many tokens run at
// once: what a sequence gives depends on its own tokens and pictures, not on what else runs or ran.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/sequence_end.h"
#include "ops/token_draw.h"
#include "tensor/qtensor.h"

namespace halftone {

// One product on one input, of one or several matrices whose rows follow one another: linear() of the parts, with what
// model/linear_product.h puts around it. The last four stand beside a single matrix only.
struct DeviceLinearSource {
  std::vector<QTensor> weights;
  std::vector<Tensor> biases;  // [rows of the part] f32, or undefined: one for each weight
  InputQuant input;
  Tensor input_scales;                  // [cols] f32: x' = x * input_scales first
  Tensor input_order;                   // [cols] i32: column j of the weight takes input input_order[j] of x'
  Tensor low_rank_a, low_rank_b;        // y += B (A x')
  std::vector<std::string> names = {};  // of the weights' modules, for errors: one for each, or none
};
// Products on one input, their outputs one after another: one where the parts' formats agree, else one for each part.
using DeviceProductsSource = std::vector<DeviceLinearSource>;

// f32; bias is undefined for RMSNorm.
struct DeviceNormSource {
  Tensor weight, bias;
};

struct DeviceDecoderLayerSource {
  DeviceNormSource input_norm, mlp_norm;
  DeviceProductsSource qkv, o, gate_up, down;
};

struct DeviceDecoderSource {
  std::int64_t layers = 0, hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0, vocabulary = 0;
  float norm_eps = 1e-6f;
  Tensor embedding;  // [vocabulary, hidden] bf16
  std::function<DeviceDecoderLayerSource(std::int64_t layer)> layer;
  DeviceNormSource norm;
  DeviceProductsSource head;
};

struct DeviceVisionBlockSource {
  DeviceNormSource norm1, norm2;
  DeviceProductsSource qkv, proj, fc1, fc2;
};

// Qwen2-VL's vision tower and merger.
struct DeviceVisionSource {
  std::int64_t depth = 0, width = 0, heads = 0, head_dim = 0, mlp_width = 0, columns = 0;
  std::int64_t merge = 0;   // patches that become one visual token: merge_size^2
  std::int64_t output = 0;  // the decoder's hidden
  float norm_eps = 1e-6f;
  DeviceProductsSource patch_embed;  // [width, columns]
  std::function<DeviceVisionBlockSource(std::int64_t block)> block;
  DeviceNormSource merger_norm;
  DeviceProductsSource merger_first, merger_second;  // [merge width, merge width], [output, merge width]
};

// Of one layer: [kv_heads] each.
struct DeviceKvScales {
  std::vector<float> k, v;
};

// How much a runner can hold; its memory is taken when it is made.
struct DeviceLimits {
  std::int64_t sequences = 1;       // that run at once
  std::int64_t kv_tokens = 0;       // of all sequences' caches together
  std::int64_t picture_tokens = 0;  // of one prompt, or of some that run together
  // The rotation of a text token by its position: [positions, head_dim / 2] f32. Decoding goes no further.
  Tensor cos, sin;
  std::vector<std::int32_t> stop_tokens;  // as ops/sequence_end.h has them
  // Of each layer: keys (after RoPE) and values are kept as codes, kE4M3: e4m3(clamp(x / scale, -448, 448)), or kInt8:
  // clamp(rint(x / scale), -127, 127). Empty: in bf16.
  std::vector<DeviceKvScales> kv_scales;
  Element kv_codes = Element::kE4M3;
};

// Bytes of the device's memory.
struct DeviceMemory {
  std::int64_t weights = 0, kv = 0, workspace = 0;
};

// The next tokens of a sequence.
struct DevicePrompt {
  std::size_t sequence = 0;
  std::span<const std::int32_t> tokens;
  // [tokens] or empty: the row of the pictures (DeviceRunner::encode_picture) that a token stands for, -1: none.
  std::span<const std::int32_t> picture_rows;
  Tensor cos, sin;                // [tokens, head_dim / 2] f32
  std::int64_t first_wanted = 0;  // logits() or choices() will be asked for what follows the tokens from here on
};

struct DeviceStepRow {
  std::size_t sequence = 0;
  std::int32_t token = 0, position = 0;
  TokenDraw draw;    // of the token after it
  TokenLimit limit;  // of that one, too
  bool operator==(const DeviceStepRow&) const = default;
};
struct DeviceChoice {
  std::int32_t token = 0;  // drawn, or of the largest logit, the smallest among equals; -1 where a logit is not finite
  float gap = 0;           // between the two largest logits
  bool ended = false;      // a step's: the row's limit says that it is the last one
};

// What a device spent on one kind of op.
struct DeviceOpTime {
  std::string op;
  std::int64_t calls = 0;
  double seconds = 0;
  double bytes = 0, flops = 0;  // read and written at least, and of products; 0 where nobody knows
};
// A still picture, resized for the vision tower.
struct DevicePicture {
  const std::uint8_t* rgb = nullptr;  // [height, width, 3]
  std::int64_t height = 0, width = 0;
  std::int64_t patch_size = 0, frames = 0, merge_size = 0;  // frames: how often a patch repeats its pixels
  std::span<const float> values;                            // [3, 256]: what the byte of a channel stands for
  // The rotation of a row, or of a column, of patches: [positions, head_dim / 4] f32, as many positions as the longer side.
  Tensor axis_cos, axis_sin;
};

// The state of one worker: caches of its sequences, pictures, buffers. Not from two threads at once. Every function throws
// Error when the device fails, and for what does not fit the limits.
class DeviceRunner {
 public:
  virtual ~DeviceRunner() = default;

  // Cuts the picture into patches, runs the vision tower and keeps its output behind those of the pictures before, until
  // clear_pictures(). Returns the first of its rows, perhaps before the device has begun: whatever is asked of it next
  // comes after that, and finish_pictures() waits for it.
  virtual std::int64_t encode_picture(const DevicePicture& picture) = 0;
  virtual void finish_pictures() = 0;
  // The same for what picture_tokens() gave before: [visual tokens, hidden] bf16.
  virtual std::int64_t put_picture(const Tensor& tokens) = 0;
  virtual Tensor picture_tokens(std::int64_t begin, std::int64_t end) = 0;
  virtual void clear_pictures() = 0;

  // Tokens in a sequence's cache.
  virtual std::int64_t length(std::size_t sequence) const = 0;
  // Whether each of the sequences can take so many tokens more, all of them together.
  virtual bool has_room(std::span<const std::size_t> sequences, std::int64_t more) const = 0;
  virtual void truncate(std::size_t sequence, std::int64_t length) = 0;
  // `to` becomes a copy of the first `length` tokens of `from`.
  virtual void copy_prefix(std::size_t from, std::size_t to, std::int64_t length) = 0;

  // Runs prompts of different sequences together, at most max_prompt() tokens in all. Several want max_logits() tokens at
  // most, one may want any number.
  virtual void prompt(std::span<const DevicePrompt> prompts) = 0;
  virtual std::int64_t max_prompt() const = 0;
  // What follows the wanted tokens [begin, end) of the last call of prompt(), counted from the first wanted one of the first
  // prompt through all of them: [end - begin, vocabulary] f32 in host memory, at most max_logits() rows.
  virtual Tensor logits(std::int64_t begin, std::int64_t end) = 0;
  // The tokens that follow the first draws.size() of them, at most max_logits().
  virtual std::vector<DeviceChoice> choices(std::span<const TokenDraw> draws) = 0;
  virtual std::int64_t max_logits() const = 0;

  // Appends one token to each row's sequence. The device begins the step after it with the tokens chosen here before it is
  // asked to: rows that follow this way, without those that have ended, cost no waiting, any others are as good.
  virtual std::vector<DeviceChoice> step(std::span<const DeviceStepRow> rows) = 0;

  virtual DeviceMemory memory() const = 0;

  // Times every op from now on, each by itself, which is slower than they are together; what was timed since, by op.
  virtual void start_profile() = 0;
  virtual std::vector<DeviceOpTime> take_profile() = 0;
};

// How the weights came to the device.
struct DeviceLoading {
  std::int64_t bytes = 0;  // that went there
  double seconds = 0;      // from the first one until all lay there as the kernels read them
};

// The weights on a device. Immutable; runners of several threads may share it.
class DeviceModel {
 public:
  virtual ~DeviceModel() = default;
  virtual std::unique_ptr<DeviceRunner> make_runner(const DeviceLimits& limits) const = 0;
  // "NVIDIA H200"
  virtual std::string device_name() const = 0;
  virtual DeviceLoading loading() const = 0;
};

// Pictures have up to `most_patches` patches each.
// `threads` of the host read the weights, 0: all cores; the sources' functions are called by several at once.
// Throws Error("[cuda] ...") without CUDA, and for formats that no kernel reads.
std::shared_ptr<const DeviceModel> make_cuda_model(const DeviceDecoderSource& decoder, const DeviceVisionSource& vision,
                                                   std::int64_t most_patches, int threads = 0);

}  // namespace halftone
