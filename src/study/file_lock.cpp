#include "study/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace halftone {
namespace {

// False when the file was removed, or replaced, between our open and our lock.
bool still_named(int descriptor, const std::filesystem::path& path) {
  struct stat opened {};
  struct stat named {};
  return fstat(descriptor, &opened) == 0 && stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

}  // namespace

FileLock::FileLock(std::filesystem::path path) : path_(std::move(path)) {
  for (;;) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    require(descriptor_ >= 0, path_.string(), "cannot make the lock file: {}", std::strerror(errno));
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(descriptor_);
      require(error == EWOULDBLOCK, path_.string(), "cannot lock: {}", std::strerror(error));
      fail(path_.string(), "the file beside it is being written by another process; wait for it or stop it");
    }
    if (still_named(descriptor_, path_)) return;
    ::close(descriptor_);
  }
}

FileLock::~FileLock() {
  // Removed while still held, so that nobody can lock a file that is about to lose its name.
  ::unlink(path_.c_str());
  ::close(descriptor_);
}

}  // namespace halftone
