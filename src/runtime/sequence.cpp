#include "runtime/sequence.h"

#include <algorithm>

namespace halftone {

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
  if (&donor != this) {
    tokens_ = donor.tokens_;
    pictures_ = donor.pictures_;
  }
  tokens_.resize(static_cast<std::size_t>(length));
  std::erase_if(pictures_, [&](const HeldPicture& picture) { return picture.begin >= length; });
}

void Sequence::extend(const PreparedPrompt& prompt) {
  const auto begin = static_cast<std::int64_t>(tokens_.size());
  tokens_.insert(tokens_.end(), prompt.tokens.begin() + begin, prompt.tokens.end());
  for (const PreparedPrompt::Picture& picture : prompt.pictures) {
    if (picture.begin >= begin) pictures_.push_back({picture.key, picture.begin});
  }
}

}  // namespace halftone
