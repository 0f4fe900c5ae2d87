#include "runtime/picture_cache.h"

#include "runtime/engine.h"

namespace halftone {

std::shared_ptr<PictureCache> make_picture_cache(std::int64_t max_bytes) {
  require(max_bytes >= 0, "picture_cache", "expected a size of 0 bytes or more, got {}", max_bytes);
  return std::make_shared<PictureCache>(max_bytes);
}

std::optional<EncodedPicture> PictureCache::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto it = index_.find(key);
  if (it == index_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, it->second);
  return it->second->picture;
}

void PictureCache::insert(const std::string& key, EncodedPicture picture) {
  const std::lock_guard lock(mutex_);
  const std::int64_t size = picture.tokens.nbytes();
  if (index_.contains(key) || size > max_bytes_) return;
  while (bytes_ + size > max_bytes_) {
    bytes_ -= entries_.back().picture.tokens.nbytes();
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
  bytes_ += size;
  entries_.push_front({key, std::move(picture)});
  index_.emplace(key, entries_.begin());
}

}  // namespace halftone
