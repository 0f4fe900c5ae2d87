#include "backend/cuda/device_runner.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/cuda/attention_prompt.h"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/upload.h"
#include "base/rounding.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda model";
// Tokens of prompts that run at once: as many as the memory of the vision tower takes, within these limits, a multiple of the
// tiles of products.
constexpr std::int64_t kFewestPromptRows = 4608, kMostPromptRows = 8192, kPromptRowUnit = 128;
// Graphs of decoding are made for caches of this many pages more and more.
constexpr std::int64_t kPageUnit = 8;

DeviceArena& emptied(DeviceArena& arena) {
  arena.reset();
  return arena;
}

const float* upload_table(const Tensor& table, DeviceArena& arena, const DeviceStream& stream) {
  auto* target = arena.allocate<float>(static_cast<std::size_t>(table.numel()));
  copy_to_device(target, std::span(table.data<float>(), static_cast<std::size_t>(table.numel())), stream, kWhere);
  return target;
}

constexpr std::size_t kIntegers = sizeof(std::int32_t);
constexpr std::size_t kLogitRows = kDecodeTokens;

std::size_t input_bytes(const DecoderShape& shape, std::int64_t prompt_rows) {
  const auto rows = static_cast<std::size_t>(prompt_rows);
  return 4 * DeviceArena::padded(rows * kIntegers) + DeviceArena::padded(kLogitRows * kIntegers) +
         2 * DeviceArena::padded(rows * static_cast<std::size_t>(shape.head_dim / 2) * sizeof(float));
}
std::size_t first_token_bytes() {
  return TokenChooser::bytes(kDecodeTokens) + 2 * DeviceArena::padded(kLogitRows * kIntegers);
}

std::size_t stop_token_bytes(const DeviceLimits& limits) {
  return DeviceArena::padded(limits.stop_tokens.size() * kIntegers);
}
std::size_t table_bytes(const Tensor& tensor) { return DeviceArena::padded(static_cast<std::size_t>(tensor.nbytes())); }

std::size_t page_elements(const DecoderShape& shape) {
  return static_cast<std::size_t>(shape.kv_heads * kPageTokens * shape.head_dim);
}
std::size_t element_bytes(const DeviceLimits& limits) {
  return limits.kv_scales.empty() ? sizeof(std::uint16_t) : sizeof(std::uint8_t);
}
std::size_t scale_bytes(const DecoderShape& shape) {
  return DeviceArena::padded(static_cast<std::size_t>(2 * shape.layers * shape.kv_heads) * sizeof(float));
}
// The keys, or the values, of CudaRunner::unpacked_; and its page table.
std::size_t unpacked_bytes(const DecoderShape& shape, std::int64_t pages) {
  return DeviceArena::padded(static_cast<std::size_t>(pages) * page_elements(shape) * sizeof(std::uint16_t));
}
std::size_t unpacked_table_bytes(std::int64_t pages) {
  return DeviceArena::padded(static_cast<std::size_t>(pages) * kIntegers);
}

// What a prompt's attention packs the keys of one sequence into.
std::size_t packed_key_bytes(const DecoderShape& shape, std::int64_t pages) {
  return DeviceArena::padded(attention_prompt_workspace(pages * kPageTokens, shape.kv_heads, shape.head_dim));
}

}  // namespace

CudaRunner::Sizes CudaRunner::sizes_of(const ModelWeights& weights, const DeviceLimits& limits) {
  const DecoderShape& shape = weights.decoder->shape();
  Sizes sizes;
  sizes.pages = divide_up(limits.kv_tokens, kPageTokens);
  sizes.pages_per_sequence = round_up(std::min(sizes.pages, divide_up(limits.cos.dim(0), kPageTokens)), kPageUnit);
  const auto layer =
      DeviceArena::padded(static_cast<std::size_t>(sizes.pages) * page_elements(shape) * element_bytes(limits));
  sizes.kv = static_cast<std::size_t>(2 * shape.layers) * layer +
             DeviceArena::padded(static_cast<std::size_t>(limits.sequences * sizes.pages_per_sequence) * 4);
  const std::size_t vision = weights.vision->buffer_bytes();
  sizes.prompt_rows = std::min(kMostPromptRows, round_up(limits.kv_tokens, kPromptRowUnit));
  while (sizes.prompt_rows > kFewestPromptRows && decoder_bytes(weights, limits, sizes) > vision) {
    sizes.prompt_rows -= kPromptRowUnit;
  }
  sizes.shared = std::max(vision, decoder_bytes(weights, limits, sizes));
  // those of one prompt, or of all that a pass takes
  sizes.picture_tokens = std::max(limits.picture_tokens, sizes.prompt_rows);
  sizes.workspace =
      DeviceArena::padded(static_cast<std::size_t>(sizes.picture_tokens * shape.hidden) * sizeof(std::uint16_t)) +
      table_bytes(limits.cos) + table_bytes(limits.sin) + stop_token_bytes(limits) +
      DecodeSteps::bytes(shape, limits.sequences) + first_token_bytes();
  if (!limits.kv_scales.empty()) {
    sizes.kv += scale_bytes(shape);
    sizes.workspace += unpacked_table_bytes(sizes.pages_per_sequence);
  }
  return sizes;
}

std::size_t CudaRunner::decoder_bytes(const ModelWeights& weights, const DeviceLimits& limits, const Sizes& sizes) {
  const DecoderShape& shape = weights.decoder->shape();
  const std::size_t unpacked = limits.kv_scales.empty() ? 0 : 2 * unpacked_bytes(shape, sizes.pages_per_sequence);
  return weights.decoder->buffer_bytes(sizes.prompt_rows, kDecodeTokens) + input_bytes(shape, sizes.prompt_rows) +
         packed_key_bytes(shape, sizes.pages_per_sequence) + unpacked;
}

CudaRunner::CudaRunner(std::shared_ptr<const ModelWeights> weights, const DeviceLimits& limits)
    : weights_(std::move(weights)),
      decoder_(*weights_->decoder),
      limits_(limits),
      sizes_(sizes_of(*weights_, limits)),
      kv_arena_("kv", sizes_.kv),
      workspace_("workspace", sizes_.workspace),
      shared_("shared workspace", sizes_.shared),
      pages_(limits.sequences, sizes_.pages_per_sequence, sizes_.pages),
      vision_buffers_(weights_->vision->make_buffers(shared_)),
      buffers_(decoder_.make_buffers(sizes_.prompt_rows, kDecodeTokens, emptied(shared_))),
      logits_(static_cast<std::size_t>(kDecodeTokens * decoder_.shape().vocabulary) * sizeof(float)) {
  require(limits.sequences >= 1 && limits.sequences <= kDecodeTokens, kWhere,
          "expected 1 to {} sequences at once, got {}", kDecodeTokens, limits.sequences);
  const DecoderShape& shape = decoder_.shape();
  pictures_ = {workspace_.allocate(static_cast<std::size_t>(sizes_.picture_tokens * shape.hidden) * 2), DType::kBF16,
               sizes_.picture_tokens, shape.hidden, shape.hidden};
  make_prompt_buffers();
  make_cache();
  const float *cos = upload_table(limits.cos, workspace_, stream_),
              *sin = upload_table(limits.sin, workspace_, stream_);
  auto* stop_tokens = workspace_.allocate<std::int32_t>(limits.stop_tokens.size());
  copy_to_device<std::int32_t>(stop_tokens, limits.stop_tokens, stream_, kWhere);
  const DecodeSteps::Model model{
      decoder_, buffers_, kv_, cos, sin, stop_tokens, static_cast<int>(limits.stop_tokens.size())};
  steps_ = std::make_unique<DecodeSteps>(model, limits.sequences, workspace_, stream_);
  stream_.synchronize();  // what fails here is no request's fault
}

void CudaRunner::make_prompt_buffers() {
  const DecoderShape& shape = decoder_.shape();
  const auto rows = static_cast<std::size_t>(sizes_.prompt_rows);
  for (std::int32_t** array : {&inputs_.tokens, &inputs_.picture_rows, &inputs_.sequences, &inputs_.slots}) {
    *array = shared_.allocate<std::int32_t>(rows);
  }
  inputs_.wanted = shared_.allocate<std::int32_t>(kLogitRows);
  inputs_.cos = shared_.allocate<float>(rows * static_cast<std::size_t>(shape.head_dim / 2));
  inputs_.sin = shared_.allocate<float>(rows * static_cast<std::size_t>(shape.head_dim / 2));
  packed_keys_ = shared_.allocate(packed_key_bytes(shape, sizes_.pages_per_sequence));
  first_tokens_ = std::make_unique<FirstTokens>(FirstTokens{TokenChooser(kDecodeTokens, workspace_, stream_),
                                                            workspace_.allocate<std::int32_t>(kLogitRows),
                                                            workspace_.allocate<float>(kLogitRows)});
}

CudaRunner::~CudaRunner() {
  // what is under way reads and writes what is given back now
  cudaStreamSynchronize(stream_.launch().stream);
}

void CudaRunner::make_cache() {
  const DecoderShape& shape = decoder_.shape();
  const auto layer = static_cast<std::size_t>(sizes_.pages) * page_elements(shape) * element_bytes(limits_);
  page_table_ =
      kv_arena_.allocate<std::int32_t>(static_cast<std::size_t>(limits_.sequences * sizes_.pages_per_sequence));
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    auto* k = static_cast<std::uint16_t*>(kv_arena_.allocate(layer));
    auto* v = static_cast<std::uint16_t*>(kv_arena_.allocate(layer));
    kv_.push_back({k, v, page_table_, static_cast<int>(sizes_.pages_per_sequence), static_cast<int>(shape.kv_heads),
                   static_cast<int>(shape.head_dim)});
  }
  if (!limits_.kv_scales.empty()) upload_scales();
}

void CudaRunner::upload_scales() {
  const DecoderShape& shape = decoder_.shape();
  const auto heads = static_cast<std::size_t>(shape.kv_heads);
  require(limits_.kv_scales.size() == kv_.size(), kWhere, "expected scales of the cache for {} layers, got {}",
          kv_.size(), limits_.kv_scales.size());
  require(limits_.kv_codes == Element::kE4M3 || limits_.kv_codes == Element::kInt8, kWhere,
          "expected codes of the cache in E4M3 or INT8");
  require(shape.head_dim % 16 == 0, kWhere,
          "expected heads of a multiple of 16 dimensions for keys and values in 8 bits, got {}", shape.head_dim);
  auto* scales = static_cast<float*>(kv_arena_.allocate(scale_bytes(shape)));
  for (std::size_t i = 0; i < kv_.size(); ++i) {
    const DeviceKvScales& layer = limits_.kv_scales[i];
    require(layer.k.size() == heads && layer.v.size() == heads, kWhere,
            "expected scales of the cache for {} heads, got {} and {}", heads, layer.k.size(), layer.v.size());
    kv_[i].element = limits_.kv_codes == Element::kInt8 ? KvElement::kInt8 : KvElement::kE4M3;
    kv_[i].k_scales = scales + 2 * i * heads;
    kv_[i].v_scales = scales + (2 * i + 1) * heads;
    copy_to_device<float>(scales + 2 * i * heads, layer.k, stream_, kWhere);
    copy_to_device<float>(scales + (2 * i + 1) * heads, layer.v, stream_, kWhere);
  }
  const std::int64_t pages = sizes_.pages_per_sequence;
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(pages));
  std::iota(numbers.begin(), numbers.end(), 0);
  auto* table = workspace_.allocate<std::int32_t>(numbers.size());
  copy_to_device<std::int32_t>(table, numbers, stream_, kWhere);
  unpacked_ = kv_.front();
  unpacked_.k = static_cast<std::uint16_t*>(shared_.allocate(unpacked_bytes(shape, pages)));
  unpacked_.v = static_cast<std::uint16_t*>(shared_.allocate(unpacked_bytes(shape, pages)));
  unpacked_.pages = table;
  unpacked_.element = KvElement::kBF16;
  unpacked_.k_scales = unpacked_.v_scales = nullptr;
}

void CudaRunner::reserve(std::size_t sequence, std::int64_t tokens) {
  if (!pages_.reserve(sequence, tokens)) return;
  const std::size_t width = pages_.pages_per_sequence();
  copy_to_device(page_table_ + sequence * width, std::span(pages_.row(sequence), width), stream_, kWhere);
}

DeviceMatrix CudaRunner::take_pictures(std::int64_t count) {
  require(pictures_held_ + count <= pictures_.rows, kWhere, "expected at most {} picture tokens, got {}",
          pictures_.rows, pictures_held_ + count);
  pictures_held_ += count;
  return rows_of(pictures_, pictures_held_ - count, pictures_held_);
}

DevicePicture CudaRunner::stage(const DevicePicture& picture) {
  require(picture.rgb && picture.height > 0 && picture.width > 0, kWhere, "expected the pixels of a picture, got none");
  const auto bytes = static_cast<std::size_t>(picture.height * picture.width * 3);
  turn_ = 1 - turn_;
  StagedPixels& staged = staged_[turn_];
  staged.uploaded.wait();
  if (bytes > staged.capacity) {
    staged.capacity = 0;
    staged.memory.reset();
    staged.memory.emplace(bytes);
    staged.capacity = bytes;
  }
  std::memcpy(staged.memory->data<char>(), picture.rgb, bytes);
  DevicePicture pinned = picture;
  pinned.rgb = staged.memory->data<std::uint8_t>();
  return pinned;
}

std::int64_t CudaRunner::encode_picture(const DevicePicture& picture) {
  const std::int64_t patches = picture.height * picture.width / (picture.patch_size * picture.patch_size);
  const DeviceMatrix target = take_pictures(patches / weights_->patches_per_token);
  wanted_ = {};
  const DevicePicture pinned = stage(picture);
  weights_->vision->upload(pinned, vision_buffers_, stream_);
  staged_[turn_].uploaded.record(stream_.launch().stream);
  weights_->vision->run(patches, 1, vision_buffers_, target, stream_.launch());
  return pictures_held_ - target.rows;
}

std::int64_t CudaRunner::put_picture(const Tensor& tokens) {
  const DeviceMatrix target = take_pictures(tokens.dim(0));
  require(tokens.dtype() == DType::kBF16 && tokens.dim(1) == target.cols, kWhere,
          "expected BF16 [tokens, {}], got {} {}", target.cols, dtype_name(tokens.dtype()), to_string(tokens.shape()));
  copy_to_device(target.data, tokens.raw(), static_cast<std::size_t>(tokens.nbytes()), stream_, kWhere);
  return pictures_held_ - target.rows;
}

Tensor CudaRunner::picture_tokens(std::int64_t begin, std::int64_t end) {
  Tensor tokens(DType::kBF16, {end - begin, pictures_.cols});
  check(cudaMemcpyAsync(tokens.raw(), rows_of(pictures_, begin, end).data, static_cast<std::size_t>(tokens.nbytes()),
                        cudaMemcpyDeviceToHost, stream_.launch().stream),
        kWhere);
  stream_.synchronize();
  return tokens;
}

// Steps that were begun ahead write behind the lengths that are kept, or into pages that others take after them on the
// same stream.
void CudaRunner::drain() {
  while (steps_->under_way() > 0) steps_->wait();
  next_.clear();
}

bool CudaRunner::has_room(std::span<const std::size_t> sequences, std::int64_t more) const {
  std::int64_t wanted = 0;
  for (const std::size_t sequence : sequences) {
    wanted += pages_.pages_wanted(sequence, pages_.length(sequence) + more);
  }
  return wanted <= pages_.free_pages();
}

void CudaRunner::truncate(std::size_t sequence, std::int64_t length) {
  drain();
  pages_.truncate(sequence, length);
}

void CudaRunner::copy_prefix(std::size_t from, std::size_t to, std::int64_t length) {
  drain();
  require(length <= pages_.length(from), kWhere, "expected at most {} tokens, got {}", pages_.length(from), length);
  pages_.truncate(to, 0);
  reserve(to, length);
  const std::size_t page = page_elements(decoder_.shape()) * element_bytes(limits_);
  for (std::int64_t i = 0; i < divide_up(length, kPageTokens); ++i) {
    const auto source = static_cast<std::size_t>(pages_.row(from)[i]) * page,
               target = static_cast<std::size_t>(pages_.row(to)[i]) * page;
    for (const PagedKv& kv : kv_) {
      for (std::uint16_t* data : {kv.k, kv.v}) {
        auto* bytes = reinterpret_cast<char*>(data);
        check(cudaMemcpyAsync(bytes + target, bytes + source, page, cudaMemcpyDeviceToDevice, stream_.launch().stream),
              kWhere);
      }
    }
  }
  pages_.append(to, length);
}

std::int64_t CudaRunner::max_logits() const { return kDecodeTokens; }

// A step of sequences whose lengths are those that the device has counted up to.
void CudaRunner::start_step(std::span<const std::size_t> sequences) {
  std::int64_t longest = 0;
  for (const std::size_t sequence : sequences) {
    const std::int64_t after = pages_.length(sequence) + steps_->under_way() + 1;
    reserve(sequence, after);
    longest = std::max(longest, after);
  }
  wanted_ = {};  // the step's hidden states take the place of the prompt's
  steps_->enqueue(longest);
}

std::vector<DeviceChoice> CudaRunner::step(std::span<const DeviceStepRow> rows) {
  std::vector<std::size_t> sequences;
  std::vector<std::int64_t> lengths;
  std::int64_t furthest = 0;
  for (const DeviceStepRow& row : rows) {
    require(row.position >= 0 && row.position < limits_.cos.dim(0), kWhere, "expected a position below {}, got {}",
            limits_.cos.dim(0), row.position);
    sequences.push_back(row.sequence);
    lengths.push_back(pages_.length(row.sequence));
    furthest = std::max({furthest, static_cast<std::int64_t>(row.position), lengths.back()});
  }
  // rows of sequences that have ended cost as much as others in products: they go when half of the rows are theirs
  if (!std::ranges::equal(rows, next_) || 2 * std::ssize(rows) <= steps_->rows()) {
    drain();
    steps_->load(rows, lengths);
    start_step(sequences);
  }
  const std::int64_t limit = std::min(limits_.cos.dim(0), sizes_.pages_per_sequence * kPageTokens);
  // nobody has asked for the tokens of the step ahead yet: where it finds no page, or nobody goes on, it is not begun
  const bool goes_on = std::ranges::any_of(rows, [](const DeviceStepRow& row) { return row.limit.remaining > 1; });
  if (goes_on && furthest + 2 < limit && has_room(sequences, steps_->under_way() + 1)) start_step(sequences);
  const std::vector<DeviceChoice> choices = steps_->wait();
  next_.clear();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    pages_.append(rows[i].sequence, 1);
    if (steps_->under_way() == 0 || choices[i].ended) continue;
    next_.push_back(
        {rows[i].sequence, choices[i].token, rows[i].position + 1, rows[i].draw.next(), rows[i].limit.next()});
  }
  return choices;
}

void CudaRunner::start_profile() {
  drain();
  stream_.watch(&profile_);
}

std::vector<DeviceOpTime> CudaRunner::take_profile() {
  drain();
  stream_.watch(nullptr);
  return profile_.take();
}

DeviceMemory CudaRunner::memory() const {
  return {static_cast<std::int64_t>(weights_->arena.capacity()), static_cast<std::int64_t>(kv_arena_.capacity()),
          static_cast<std::int64_t>(workspace_.capacity() + shared_.capacity())};
}

}  // namespace halftone::cuda
