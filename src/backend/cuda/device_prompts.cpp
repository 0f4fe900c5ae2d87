// CudaRunner's prompts: several of them in one pass, and what follows their tokens.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cuda/attention_prompt.h"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device_runner.h"
#include "backend/cuda/upload.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda prompt";

template <typename T>
void append(std::vector<T>& values, std::span<const T> more) {
  values.insert(values.end(), more.begin(), more.end());
}

}  // namespace

// The rows of one prompt in a pass.
struct CudaRunner::Segment {
  std::size_t sequence = 0;
  std::int64_t begin = 0, rows = 0;
  std::int64_t first = 0;   // place of the first one in its sequence
  std::int64_t wanted = 0;  // rows before the first wanted one

  std::int64_t wanted_rows() const { return rows - wanted; }
};

std::vector<CudaRunner::Segment> CudaRunner::place_prompts(std::span<const DevicePrompt> prompts) {
  std::vector<Segment> segments;
  std::int64_t rows = 0, wanted = 0;
  for (const DevicePrompt& prompt : prompts) {
    const auto count = static_cast<std::int64_t>(prompt.tokens.size());
    const auto turns = Shape{count, decoder_.shape().head_dim / 2};
    require(count >= 1 && prompt.first_wanted >= 0 && prompt.first_wanted <= count &&
                (prompt.picture_rows.empty() || prompt.picture_rows.size() == prompt.tokens.size()) &&
                prompt.cos.shape() == turns && prompt.sin.shape() == turns,
            kWhere, "expected rotations {} and rows of pictures for {} tokens, got {} and {}", to_string(turns), count,
            to_string(prompt.cos.shape()), prompt.picture_rows.size());
    const auto own = [&](const Segment& other) { return other.sequence == prompt.sequence; };
    require(std::none_of(segments.begin(), segments.end(), own), kWhere, "sequence {} has two prompts in one pass",
            prompt.sequence);
    segments.push_back({prompt.sequence, rows, count, pages_.length(prompt.sequence), prompt.first_wanted});
    rows += count;
    wanted += count - prompt.first_wanted;
  }
  require(rows >= 1 && rows <= max_prompt(), kWhere, "expected 1 to {} tokens, got {}", max_prompt(), rows);
  require(prompts.size() == 1 || wanted <= max_logits(), kWhere,
          "expected at most {} wanted tokens of {} prompts, got {}", max_logits(), prompts.size(), wanted);
  for (const Segment& segment : segments) reserve(segment.sequence, segment.first + segment.rows);
  return segments;
}

// What kernels read of the prompts, one after another. True when a token stands for a picture's.
bool CudaRunner::load_prompts(std::span<const DevicePrompt> prompts, std::span<const Segment> segments) {
  std::vector<std::int32_t> tokens, picture_rows, sequences, slots, wanted;
  bool pictures = false;
  std::int64_t turned = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const DevicePrompt& prompt = prompts[i];
    const Segment& segment = segments[i];
    append(tokens, prompt.tokens);
    append(picture_rows, prompt.picture_rows);
    picture_rows.resize(tokens.size(), -1);
    pictures = pictures || !prompt.picture_rows.empty();
    sequences.resize(tokens.size(), static_cast<std::int32_t>(prompt.sequence));
    slots.resize(tokens.size());
    std::iota(slots.end() - segment.rows, slots.end(), static_cast<std::int32_t>(segment.first));
    for (std::int64_t row = segment.wanted; prompts.size() > 1 && row < segment.rows; ++row) {
      wanted.push_back(static_cast<std::int32_t>(segment.begin + row));
    }
    const auto count = static_cast<std::size_t>(prompt.cos.numel());
    copy_to_device(inputs_.cos + turned, std::span(prompt.cos.data<float>(), count), stream_, kWhere);
    copy_to_device(inputs_.sin + turned, std::span(prompt.sin.data<float>(), count), stream_, kWhere);
    turned += prompt.cos.numel();
  }
  copy_to_device<std::int32_t>(inputs_.tokens, tokens, stream_, kWhere);
  if (pictures) copy_to_device<std::int32_t>(inputs_.picture_rows, picture_rows, stream_, kWhere);
  copy_to_device<std::int32_t>(inputs_.sequences, sequences, stream_, kWhere);
  copy_to_device<std::int32_t>(inputs_.slots, slots, stream_, kWhere);
  if (!wanted.empty()) copy_to_device<std::int32_t>(inputs_.wanted, wanted, stream_, kWhere);
  return pictures;
}

void CudaRunner::prompt(std::span<const DevicePrompt> prompts) {
  drain();
  const std::vector<Segment> segments = place_prompts(prompts);
  const bool pictures = load_prompts(prompts, segments);
  const Launch launch = stream_.launch();
  const std::int64_t rows = segments.back().begin + segments.back().rows;
  embedding({decoder_.embedding(), inputs_.tokens, rows_of(buffers_.hidden, 0, rows), pictures_,
             pictures ? inputs_.picture_rows : nullptr},
            launch);
  DeviceDecoder::Pass pass;
  pass.prompt = true;
  if (segments.size() == 1) {
    pass.first_wanted = segments[0].wanted;
  } else {
    pass.wanted = inputs_.wanted;
    for (const Segment& segment : segments) pass.wanted_rows += segment.wanted_rows();
  }
  pass.attend = [&](const DeviceMatrix& qkv, const PagedKv& kv, bool last, const DeviceMatrix& mixed) {
    rope_append({qkv, inputs_.cos, inputs_.sin, inputs_.sequences, inputs_.slots, decoder_.shape().heads}, kv, launch);
    attend(segments, qkv, kv, last, mixed);
  };
  wanted_ = decoder_.run(rows, pass, kv_, buffers_, launch);
  for (const Segment& segment : segments) pages_.append(segment.sequence, segment.rows);
  stream_.synchronize();  // what the caller measures is the work, not its beginning
}

// The attention of all rows, or of the wanted ones, prompt after prompt.
void CudaRunner::attend(std::span<const Segment> segments, const DeviceMatrix& qkv, const PagedKv& kv, bool wanted_only,
                        const DeviceMatrix& mixed) const {
  const DecoderShape& shape = decoder_.shape();
  const Launch launch = stream_.launch();
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  std::int64_t done = 0;
  for (const Segment& segment : segments) {
    const std::int64_t skipped = wanted_only ? segment.wanted : 0, first = segment.first + skipped;
    if (skipped == segment.rows) continue;
    const DeviceMatrix q =
        columns_of(rows_of(qkv, segment.begin + skipped, segment.begin + segment.rows), 0, shape.q_width());
    const DeviceMatrix out = rows_of(mixed, done, done + q.rows);
    done += q.rows;
    // an op of its own, so before the next one is watched
    const PagedKv readable = prompt_keys(kv, segment.sequence, segment.first + segment.rows);
    const auto own = static_cast<std::int32_t>(kv.holds_codes() ? 0 : segment.sequence);
    const auto keys = static_cast<double>(first) + 0.5 * static_cast<double>(q.rows + 1);
    const ProfiledOp watched(launch, "attention_prompt", 0, 4.0 * static_cast<double>(q.rows * q.cols) * keys);
    attention_prompt({q, own, first, scale, shape.heads, out, packed_keys_}, readable, launch);
  }
}

PagedKv CudaRunner::prompt_keys(const PagedKv& kv, std::size_t sequence, std::int64_t tokens) const {
  if (!kv.holds_codes()) return kv;
  unpack_kv(kv, static_cast<std::int32_t>(sequence), tokens, unpacked_, stream_.launch());
  return unpacked_;
}

void CudaRunner::find_logits(std::int64_t begin, std::int64_t end) {
  require(begin >= 0 && begin < end && end <= wanted_.rows && end - begin <= max_logits(), kWhere,
          "expected up to {} of {} wanted tokens, got {} to {}", max_logits(), wanted_.rows, begin, end);
  decoder_.logits(rows_of(wanted_, begin, end), buffers_, stream_.launch());
}

Tensor CudaRunner::logits(std::int64_t begin, std::int64_t end) {
  find_logits(begin, end);
  Tensor logits(DType::kF32, {end - begin, decoder_.shape().vocabulary});
  const auto bytes = static_cast<std::size_t>(logits.nbytes());
  check(cudaMemcpyAsync(logits_.data<float>(), buffers_.logits.data, bytes, cudaMemcpyDeviceToHost,
                        stream_.launch().stream),
        kWhere);
  stream_.synchronize();
  std::copy_n(logits_.data<float>(), logits.numel(), logits.data<float>());
  return logits;
}

std::vector<DeviceChoice> CudaRunner::choices(std::span<const TokenDraw> draws) {
  const std::size_t count = draws.size();
  find_logits(0, std::ssize(draws));
  FirstTokens& first = *first_tokens_;
  first.chooser.load(draws, stream_);
  first.chooser.start({rows_of(buffers_.logits, 0, std::ssize(draws)), first.tokens, first.gaps}, stream_.launch());
  std::vector<std::int32_t> tokens(count);
  std::vector<float> gaps(count);
  const cudaStream_t stream = stream_.launch().stream;
  check(cudaMemcpyAsync(tokens.data(), first.tokens, count * 4, cudaMemcpyDeviceToHost, stream), kWhere);
  check(cudaMemcpyAsync(gaps.data(), first.gaps, count * 4, cudaMemcpyDeviceToHost, stream), kWhere);
  stream_.synchronize();
  std::vector<DeviceChoice> choices;
  for (std::size_t i = 0; i < count; ++i) choices.push_back({tokens[i], gaps[i]});
  return choices;
}

}  // namespace halftone::cuda
