#include "runtime/sequence.h"

#include <algorithm>

namespace halftone {
namespace {

// Long prompts run in pieces, which bounds the workspace and changes no result.
constexpr std::int64_t kChunk = 512;

}  // namespace

std::int64_t Sequence::shared_prefix(const PreparedPrompt& prompt, std::int64_t limit) const {
  std::int64_t length = 0;
  const std::int64_t most =
      std::min({limit, static_cast<std::int64_t>(prompt.tokens.size()), static_cast<std::int64_t>(tokens_.size())});
  while (length < most &&
         tokens_[static_cast<std::size_t>(length)] == prompt.tokens[static_cast<std::size_t>(length)]) {
    ++length;
  }
  // placeholders are equal for all pictures: the prefix ends where the first different picture begins
  for (std::size_t i = 0; i < std::max(prompt.pictures.size(), pictures_.size()); ++i) {
    const bool mine = i < pictures_.size(), theirs = i < prompt.pictures.size();
    if (mine && theirs && pictures_[i].key == prompt.pictures[i].key &&
        pictures_[i].begin == prompt.pictures[i].begin) {
      continue;
    }
    if (mine) length = std::min(length, pictures_[i].begin);
    if (theirs) length = std::min(length, prompt.pictures[i].begin);
    break;
  }
  return length;
}

void Sequence::keep_prefix(const Sequence& donor, std::int64_t length) {
  if (&donor == this) {
    cache_.truncate(length);
  } else {
    cache_.copy_prefix(donor.cache_, length);
    tokens_ = donor.tokens_;
    pictures_ = donor.pictures_;
  }
  tokens_.resize(static_cast<std::size_t>(length));
  std::erase_if(pictures_, [&](const HeldPicture& picture) { return picture.begin >= length; });
}

Tensor Sequence::prefill(const EngineState& engine, PreparedPrompt& prompt, std::int64_t first_wanted, RunContext run,
                         StageTimes& times) {
  const std::int64_t total = static_cast<std::int64_t>(prompt.tokens.size()), begin = cache_.length();
  std::vector<Tensor> encoded;
  std::int64_t visual = 0;
  for (PreparedPrompt::Picture& picture : prompt.pictures) {
    if (picture.begin < begin) continue;
    encoded.push_back(engine.encode(picture, run, times));
    visual += encoded.back().dim(0);
  }
  const Timer timer;
  Tensor pictures = encoded.size() == 1 ? encoded.front() : Tensor();
  if (encoded.size() > 1) {
    pictures = Tensor(DType::kF32, {visual, engine.model().config().decoder.hidden});
    float* target = pictures.data<float>();
    for (const Tensor& one : encoded) target = std::copy_n(one.data<float>(), one.numel(), target);
  }
  const std::span<const TokenId> tokens = std::span(prompt.tokens).subspan(static_cast<std::size_t>(begin));
  Tensor hidden = engine.model().embed(tokens, pictures);
  for (std::int64_t chunk = begin; chunk < total; chunk += kChunk) {
    const std::int64_t end = std::min(total, chunk + kChunk);
    const auto positions = std::span(prompt.positions.values)
                               .subspan(static_cast<std::size_t>(chunk), static_cast<std::size_t>(end - chunk));
    const SequenceSlice slice{&cache_, positions, std::max<std::int64_t>(0, end - std::max(chunk, first_wanted))};
    Tensor rows = hidden.rows(chunk - begin, end - begin);
    engine.model().forward({&slice, 1}, rows, run);
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  for (const PreparedPrompt::Picture& picture : prompt.pictures) {
    if (picture.begin >= begin) pictures_.push_back({picture.key, picture.begin});
  }
  times.prefill += timer.seconds();
  return hidden;
}

}  // namespace halftone
