#pragma once
// Files: memory maps, bounded reads, and writes that never leave half a file under its final name.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// A read-only memory map of a whole file. Copies share the map. Throws Error when the file cannot be opened.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }
  // Keeps the pages alive; hand it to whatever borrows from bytes().
  std::shared_ptr<const void> owner() const { return owner_; }
  // Gives the memory of a part of a map back to the system; the file is read again when the part is touched. `part`
  // must lie in a MappedFile that is alive; only its whole pages are dropped.
  static void drop_pages(std::span<const std::byte> part);

 private:
  std::filesystem::path path_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

// Throws the Error that read_file() throws for a path that is no regular file.
void require_file(const std::filesystem::path& path);

// The whole file. Throws Error when it is missing, unreadable or larger than max_bytes.
std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes = 1ull << 30);

// Writes to a temporary neighbour, flushes it to disk, and renames it over `path`. Throws Error; then `path` is as it
// was, or new where only its folder could not be flushed.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// A folder that appears under its final name only when it is complete: write into path(), then commit().
// The destructor removes what was not committed. commit() refuses to replace an existing folder unless told to; it
// waits until every file is on the disk, then renames, so that the old folder is whole until the new one is.
// What killed processes left of the same folder is removed.
class PendingFolder {
 public:
  explicit PendingFolder(std::filesystem::path final_path);
  ~PendingFolder();
  PendingFolder(const PendingFolder&) = delete;
  PendingFolder& operator=(const PendingFolder&) = delete;
  const std::filesystem::path& path() const { return temporary_; }
  void commit(bool replace = false);

 private:
  void move_into_place();

  std::filesystem::path final_;
  std::filesystem::path temporary_;
  std::vector<std::filesystem::path> made_parents_;  // the innermost first
  bool committed_ = false;
  std::shared_ptr<const void> lock_;  // held while this object lives
};

}  // namespace halftone
