#pragma once
// Outputs of the vision tower, least recently used out first.

#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "model/mrope.h"
#include "tensor/tensor.h"

namespace halftone {

struct EncodedPicture {
  PictureGrid grid;
  Tensor tokens;  // [visual tokens, hidden] f32
};

class PictureCache {
 public:
  explicit PictureCache(std::int64_t max_bytes) : max_bytes_(max_bytes) {}

  std::optional<EncodedPicture> find(const std::string& key);
  void insert(const std::string& key, EncodedPicture picture);

 private:
  struct Entry {
    std::string key;
    EncodedPicture picture;
  };

  std::mutex mutex_;
  std::int64_t max_bytes_, bytes_ = 0;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

}  // namespace halftone
