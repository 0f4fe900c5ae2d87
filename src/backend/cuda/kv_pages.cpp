#include "backend/cuda/kv_pages.h"

#include "backend/cuda/device/decode_ops.h"
#include "base/error.h"
#include "base/rounding.h"

namespace halftone::cuda {
namespace {

std::size_t pages_of(std::int64_t tokens) { return static_cast<std::size_t>(divide_up(tokens, kPageTokens)); }

}  // namespace

KvPages::KvPages(std::int64_t sequences, std::int64_t pages_per_sequence, std::int64_t pages)
    : per_sequence_(static_cast<std::size_t>(pages_per_sequence)),
      sequences_(static_cast<std::size_t>(sequences)),
      table_(sequences_.size() * per_sequence_, 0) {
  for (std::int64_t page = pages; page-- > 0;) free_.push_back(static_cast<std::int32_t>(page));
}

const KvPages::Sequence& KvPages::at(std::size_t sequence) const {
  require(sequence < sequences_.size(), "cuda kv", "expected at most {} sequences at once, got one more",
          sequences_.size());
  return sequences_[sequence];
}

std::int64_t KvPages::pages_wanted(std::size_t sequence, std::int64_t tokens) const {
  const std::size_t wanted = pages_of(tokens), held = at(sequence).pages;
  return wanted > held ? static_cast<std::int64_t>(wanted - held) : 0;
}

bool KvPages::reserve(std::size_t sequence, std::int64_t tokens) {
  const std::int64_t wanted = pages_wanted(sequence, tokens);
  if (wanted == 0) return false;
  require(pages_of(tokens) <= per_sequence_, "cuda kv", "a sequence holds at most {} tokens, got {}",
          per_sequence_ * kPageTokens, tokens);
  require(wanted <= free_pages(), "cuda kv",
          "the cache is full: {} tokens more are wanted, {} are free; fewer sequences at once, shorter ones, or a "
          "larger cache (--kv-tokens)",
          wanted * kPageTokens, free_pages() * kPageTokens);
  Sequence& held = sequences_[sequence];
  for (std::int64_t i = 0; i < wanted; ++i) {
    table_[sequence * per_sequence_ + held.pages++] = free_.back();
    free_.pop_back();
  }
  return true;
}

void KvPages::truncate(std::size_t sequence, std::int64_t length) {
  require(length >= 0 && length <= at(sequence).length, "cuda kv", "expected at most {} tokens, got {}",
          at(sequence).length, length);
  Sequence& held = sequences_[sequence];
  held.length = length;
  while (held.pages > pages_of(length)) free_.push_back(table_[sequence * per_sequence_ + --held.pages]);
}

void KvPages::append(std::size_t sequence, std::int64_t tokens) {
  require(pages_wanted(sequence, length(sequence) + tokens) == 0, "cuda kv", "expected reserved pages for {} tokens",
          length(sequence) + tokens);
  sequences_[sequence].length += tokens;
}

}  // namespace halftone::cuda
