#include "backend/cuda/kv_pages.h"

#include "backend/cuda/device/decode_ops.h"
#include "base/error.h"

namespace halftone::cuda {
namespace {

std::size_t pages_of(std::int64_t tokens) { return static_cast<std::size_t>((tokens + kPageTokens - 1) / kPageTokens); }

}  // namespace

KvPages::KvPages(std::int64_t sequences, std::int64_t pages_per_sequence, std::int64_t pages)
    : per_sequence_(static_cast<std::size_t>(pages_per_sequence)),
      sequences_(static_cast<std::size_t>(sequences)),
      table_(sequences_.size() * per_sequence_, 0) {
  for (std::int64_t page = pages; page-- > 0;) free_.push_back(static_cast<std::int32_t>(page));
}

bool KvPages::reserve(std::size_t sequence, std::int64_t tokens) {
  Sequence& held = sequences_.at(sequence);
  const std::size_t wanted = pages_of(tokens);
  if (wanted <= held.pages) return false;
  require(wanted <= per_sequence_, "cuda kv", "a sequence holds at most {} tokens, got {}", per_sequence_ * kPageTokens,
          tokens);
  require(
      wanted - held.pages <= free_.size(), "cuda kv",
      "the cache is full: {} tokens more are wanted, {} are free; fewer sequences at once, shorter ones, or a larger "
      "cache (--kv-tokens)",
      (wanted - held.pages) * kPageTokens, free_.size() * kPageTokens);
  while (held.pages < wanted) {
    table_[sequence * per_sequence_ + held.pages++] = free_.back();
    free_.pop_back();
  }
  return true;
}

void KvPages::set_length(std::size_t sequence, std::int64_t length) {
  Sequence& held = sequences_.at(sequence);
  require(length >= 0 && pages_of(length) <= held.pages, "cuda kv", "expected at most {} tokens, got {}",
          held.pages * kPageTokens, length);
  held.length = length;
  while (held.pages > pages_of(length)) free_.push_back(table_[sequence * per_sequence_ + --held.pages]);
}

void KvPages::append(std::size_t sequence, std::int64_t tokens) {
  Sequence& held = sequences_.at(sequence);
  require(pages_of(held.length + tokens) <= held.pages, "cuda kv", "expected reserved pages for {} tokens",
          held.length + tokens);
  held.length += tokens;
}

}  // namespace halftone::cuda
