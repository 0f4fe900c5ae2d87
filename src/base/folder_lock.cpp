#include "base/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/descriptor.h"

namespace halftone {

FolderLock lock_folder(const std::filesystem::path& folder) {
  const auto file = std::make_shared<const Descriptor>(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file->get() < 0) return {};
  if (::flock(file->get(), LOCK_EX | LOCK_NB) == 0) return {FolderLock::State::kOurs, file};
  return {errno == EWOULDBLOCK ? FolderLock::State::kElsewhere : FolderLock::State::kImpossible, nullptr};
}

}  // namespace halftone
