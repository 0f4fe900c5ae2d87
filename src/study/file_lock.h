#pragma once
// A lock that dies with its process.

#include <filesystem>

namespace halftone {

// Holds `path` (an empty file beside what it protects) by flock(2) until destroyed, then removes it.
class FileLock {
 public:
  // Throws Error at once when another process, or this one, holds it.
  explicit FileLock(std::filesystem::path path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace halftone
