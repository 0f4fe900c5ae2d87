#pragma once
// One process at a time works in a folder.

#include <filesystem>
#include <memory>

namespace halftone {

struct FolderLock {
  enum class State : std::uint8_t {
    kOurs,
    kElsewhere,   // another process, or another part of this one, holds it
    kImpossible,  // the folder cannot be opened, or its file system has no locks
  };
  State state = State::kImpossible;
  std::shared_ptr<const void> held;  // kOurs: released with its last copy; a process that is killed releases it
};
// Never waits.
FolderLock lock_folder(const std::filesystem::path& folder);

}  // namespace halftone
