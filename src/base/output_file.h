#pragma once
// A large file that is written in pieces, at any place.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace halftone {

// Errors name the file and the system's reason. At most two windows of kDirtyWindow bytes wait in the page cache to be
// written back, of all files together that are open at a time (and two MiB of each where they are many), so that a slow
// disk slows the writer down instead of filling memory; finish() waits until the data are on the disk (fdatasync).
class OutputFile {
 public:
  static constexpr std::int64_t kDirtyWindow = 64 << 20;

  // Creates the file, or empties it, and reserves its length where the file system can: a disk that is too small is
  // found here. Throws Error.
  OutputFile(std::filesystem::path path, std::int64_t size);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // May be called for pieces in any order, by one thread at a time. Throws Error.
  void write_at(std::int64_t offset, std::span<const std::byte> bytes);
  // Call once, last. Throws Error.
  void finish();

 private:
  [[noreturn]] void refuse(const char* what, std::int64_t bytes, int error) const;
  void start_writeback();
  int close();

  std::filesystem::path path_;
  int fd_ = -1;
  std::int64_t since_writeback_ = 0;
};

}  // namespace halftone
