#pragma once
// Which pages of the KV cache belong to which sequence. It keeps the books; the pages themselves lie on the device.

#include <cstdint>
#include <vector>

namespace halftone::cuda {

class KvPages {
 public:
  // `pages` in all, each of kPageTokens tokens; a sequence holds at most `pages_per_sequence`.
  KvPages(std::int64_t sequences, std::int64_t pages_per_sequence, std::int64_t pages);

  std::int64_t length(std::size_t sequence) const { return sequences_.at(sequence).length; }
  // Takes pages for the first `tokens` tokens of a sequence. True when there are new ones: its row of the table changed.
  // Throws Error when the cache or the sequence is full; then nothing changed.
  bool reserve(std::size_t sequence, std::int64_t tokens);
  // Sets the length to at most what is reserved, and gives back the pages behind it.
  void set_length(std::size_t sequence, std::int64_t length);
  // Counts tokens as held; their pages must be reserved.
  void append(std::size_t sequence, std::int64_t tokens);

  // Page numbers of a sequence in order, [pages_per_sequence]; 0 where there is none.
  const std::int32_t* row(std::size_t sequence) const { return table_.data() + sequence * per_sequence_; }
  std::size_t pages_per_sequence() const { return per_sequence_; }
  std::size_t count() const { return sequences_.size(); }

 private:
  struct Sequence {
    std::int64_t length = 0;
    std::size_t pages = 0;
  };
  std::size_t per_sequence_;
  std::vector<Sequence> sequences_;
  std::vector<std::int32_t> table_;  // [sequences, per_sequence_]
  std::vector<std::int32_t> free_;   // the last one is taken next
};

}  // namespace halftone::cuda
