#pragma once
// The baseline's predictions, kept so that each configuration is compared with the same ones without running the
// baseline again: all logits in f32, exact. A file has
//
//   header   "HTDISTR1", vocabulary u32, 0 u32, identity [64]
//   records  id bytes u32, tokens u32, SHA-256 of the rest [64], id, zeros to a multiple of 4,
//            tokens [tokens] i32, logits [tokens, vocabulary] f32
//
// little endian. It grows by whole records; one that a crash cut off is found by its size or hash and dropped.
// 4,096 entries take 16 KiB a token, 151,936 take 594 KiB: limit the samples of a KL task for large vocabularies.

#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "text/tokenizer.h"

namespace halftone {

// What one record holds. Borrows from the reader.
struct RecordedAnswer {
  std::span<const TokenId> tokens;
  std::span<const float> logits;  // [tokens, vocabulary]
  std::int64_t vocabulary = 0;

  std::span<const float> row(std::size_t token) const {
    return logits.subspan(token * static_cast<std::size_t>(vocabulary), static_cast<std::size_t>(vocabulary));
  }
};

// Maps a file. Immutable; safe to share between threads.
class DistributionReader {
 public:
  // Checks and indexes every whole record; what follows the last one is ignored. Throws Error when the file is no such
  // file or `identity` is not the one it was made with.
  DistributionReader(const std::filesystem::path& path, const std::string& identity);
  bool contains(const std::string& id) const { return records_.contains(id); }
  // Throws Error when there is none.
  RecordedAnswer find(const std::string& id) const;
  std::int64_t vocabulary() const { return vocabulary_; }
  // Where the last whole record ends.
  std::uint64_t valid_bytes() const { return valid_bytes_; }
  std::vector<std::string> ids() const;

 private:
  MappedFile file_;
  std::int64_t vocabulary_ = 0;
  std::uint64_t valid_bytes_ = 0;
  std::map<std::string, RecordedAnswer> records_;
};

// Appends records; safe to use by several threads.
class DistributionWriter {
 public:
  // Continues a file or makes one. `identity` is a SHA-256 in hexadecimal of what makes the predictions: weights,
  // prompts, data, numerics. Throws Error when the file was made with another identity or vocabulary.
  DistributionWriter(std::filesystem::path path, const std::string& identity, std::int64_t vocabulary);
  bool contains(const std::string& id) const;
  // Writes one whole record and hands it to the operating system. Throws Error when the disk is full or the id is
  // there.
  void append(const std::string& id, std::span<const TokenId> tokens, std::span<const float> logits);

 private:
  std::filesystem::path path_;
  std::int64_t vocabulary_;
  mutable std::mutex mutex_;
  std::set<std::string> ids_;
};

}  // namespace halftone
