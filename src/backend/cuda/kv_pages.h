#pragma once
// Which pages of the KV cache belong to which sequence. It keeps the books; the pages themselves lie on the device.

#include <cstdint>
#include <vector>

namespace halftone::cuda {

class KvPages {
 public:
  // `pages` in all, each of kPageTokens tokens; a sequence holds at most `pages_per_sequence`.
  KvPages(std::int64_t sequences, std::int64_t pages_per_sequence, std::int64_t pages);

  std::int64_t length(std::size_t sequence) const { return at(sequence).length; }
  // Takes pages for the first `tokens` tokens of a sequence. True when there are new ones: its row of the table changed.
  // Throws Error when the cache or the sequence is full; then nothing changed.
  bool reserve(std::size_t sequence, std::int64_t tokens);
  // How many pages reserve() would take; more than free_pages(), or than a sequence holds, is what it refuses.
  std::int64_t pages_wanted(std::size_t sequence, std::int64_t tokens) const;
  std::int64_t free_pages() const { return static_cast<std::int64_t>(free_.size()); }
  // Forgets the tokens from `length` on, and gives back the pages behind it, reserved ones too.
  void truncate(std::size_t sequence, std::int64_t length);
  // Counts tokens as held; their pages must be reserved.
  void append(std::size_t sequence, std::int64_t tokens);

  // Page numbers of a sequence in order, [pages_per_sequence]; anything where there is none.
  const std::int32_t* row(std::size_t sequence) const { return table_.data() + sequence * per_sequence_; }
  std::size_t pages_per_sequence() const { return per_sequence_; }

 private:
  struct Sequence {
    std::int64_t length = 0;
    std::size_t pages = 0;
  };
  // Throws Error for a sequence that there is no room for.
  const Sequence& at(std::size_t sequence) const;

  std::size_t per_sequence_;
  std::vector<Sequence> sequences_;
  std::vector<std::int32_t> table_;  // [sequences, per_sequence_]
  std::vector<std::int32_t> free_;   // the last one is taken next
};

}  // namespace halftone::cuda
